#!/usr/bin/env node
// Plain JavaScript that old versions of Node read too: it finds a Node that runs the TypeScript beside it.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import { fileURLToPath } from 'node:url';

const [major, minor] = process.versions.node.split('.').map(Number);
const ownNode = fileURLToPath(new URL('../node_modules/.bin/node', import.meta.url));

if (major > 24 || (major === 24 && minor >= 11)) {
  await import('./main.ts');
} else if (existsSync(ownNode)) {
  const atTerminal = process.stdin.isTTY || process.stdout.isTTY || process.stderr.isTTY;
  // The handlers come first: a signal at the wrong moment would end this process and leave the child alone.
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT']) {
    // A terminal signals the child by itself, and a second SIGINT would mean "at once".
    process.on(signal, () => {
      if (signal === 'SIGTERM' || !atTerminal) child.kill(signal);
    });
  }
  const child = spawn(ownNode, process.argv.slice(1), { stdio: 'inherit' });
  child.on('error', (error) => {
    process.stderr.write(
      `quorumbridge: ${ownNode} cannot be run: ${error.message}; npm ci brings it again\n`,
    );
    process.exitCode = 1;
  });
  child.on('exit', (code, signal) => {
    process.exitCode = code ?? 128 + constants.signals[signal];
  });
} else {
  process.stderr.write(
    `quorumbridge: Node ${process.versions.node} is too old, 24.11 or newer is needed: npm ci in the project's folder brings one\n`,
  );
  process.exitCode = 1;
}
