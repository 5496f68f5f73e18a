// Runs a program of this repository on the Node that package-lock.json pins, and installs the packages first when
// they are missing or older than the lock. Plain JavaScript for Node 20 and later, without dependencies: this is the
// one file that runs before anything is installed.
//   node test/support/run.mjs PROGRAM [ARGUMENTS]
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const home = fileURLToPath(new URL('../../', import.meta.url));
const bin = join(home, 'node_modules', '.bin');
const pinned = join(bin, 'node');

/** Why `npm ci` has to run, or undefined: npm's own record of what it installed is held against the lock. */
function whyInstall() {
  const record = join(home, 'node_modules', '.package-lock.json');
  if (!existsSync(record)) return 'nothing is installed yet';
  const wanted = JSON.parse(readFileSync(join(home, 'package-lock.json'), 'utf8')).packages;
  const present = JSON.parse(readFileSync(record, 'utf8')).packages;
  for (const [path, entry] of Object.entries(wanted)) {
    if (path === '') continue;
    // Optional packages are those of other platforms.
    if (present[path] === undefined ? !entry.optional : present[path].version !== entry.version) {
      return `package-lock.json has ${path} ${entry.version}`;
    }
  }
  const extra = Object.keys(present).find((path) => wanted[path] === undefined);
  return extra === undefined ? undefined : `package-lock.json no longer has ${extra}`;
}

function install(why) {
  process.stderr.write(`Installing packages with npm ci (${why}) ...\n`);
  const began = Date.now();
  const npm = process.env.npm_execpath?.endsWith('.js')
    ? [process.execPath, process.env.npm_execpath]
    : ['npm'];
  const args = [...npm.slice(1), 'ci', '--no-audit', '--no-fund', '--loglevel=error'];
  const result = spawnSync(npm[0], args, { cwd: home, stdio: ['ignore', 2, 2] });
  if (result.status !== 0) {
    process.stderr.write(`npm ci failed${result.error ? `: ${result.error.message}` : ''}; see above.\n`);
    process.exit(1);
  }
  process.stderr.write(`Installed in ${Math.round((Date.now() - began) / 1000)} s.\n`);
}

/** This Node, where the lock has none for the platform and this one is new enough. */
function ownNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major > 24 || (major === 24 && minor >= 11)) return process.execPath;
  process.stderr.write(
    `No Node is pinned for ${process.platform}-${process.arch}: run this with Node 24.11 or later.\n`,
  );
  return process.exit(1);
}

const why = whyInstall();
if (why !== undefined) install(why);

const child = spawn(existsSync(pinned) ? pinned : ownNode(), process.argv.slice(2), {
  stdio: 'inherit',
  env: { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH ?? ''}` },
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
child.on('error', (error) => {
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
});
child.on('exit', (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));
