// `npm run bench`: what the proxy costs beside HAProxy, any other proxy, and none.
import { existsSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { messageOf } from '../common/errors.ts';
import { bench } from './bench.ts';
import { HELP, readBenchOptions } from './options.ts';
import { out } from './peers.ts';
import { caseLine, footLines, headLine } from './report.ts';
import { toJson } from './results.ts';

async function main(): Promise<number> {
  const settings = readBenchOptions(process.argv.slice(2));
  if (settings === 'help') {
    process.stdout.write(HELP);
    return 0;
  }
  if (settings instanceof Error) {
    process.stderr.write(`${settings.message}\n\n${HELP}`);
    return 2;
  }
  if (!existsSync('/proc/self/schedstat')) {
    process.stderr.write(
      'Nothing can be measured here: CPU and memory are read from /proc, which Linux has\n',
    );
    return 3;
  }
  await using cleanup = new AsyncDisposableStack();
  const interrupted = new Promise<number>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
      process.once(signal, () => resolve(128 + constants.signals[signal]));
  });
  let targets: readonly string[] = [];
  const measured = bench(settings, cleanup, {
    begins(names, missing) {
      targets = names;
      for (const [name, why] of Object.entries(missing)) out(`missing: ${name}: ${why}`);
      out(headLine(targets));
    },
    measured: (one, found) => out(caseLine(one, targets, found)),
  }).then((results) => {
    for (const line of footLines(results)) out(line);
    if (settings.json !== undefined) writeFileSync(settings.json, toJson(results));
    return 0;
  });
  try {
    return await Promise.race([measured, interrupted]);
  } catch (error) {
    process.stderr.write(`The benchmark failed: ${messageOf(error)}\n`);
    return 1;
  }
}

const code = await main();
// What was under way when the signal came waits for processes that are gone.
if (code > 128) process.exit(code);
process.exitCode = code;
