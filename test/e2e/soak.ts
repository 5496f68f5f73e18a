// `npm run soak`: the proxy under mixed traffic for minutes or hours, and whether it holds on to anything or loses anything.
import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import { styleText } from 'node:util';
import { messageOf } from '../../common/errors.ts';
import { createNarrator } from './narrator.ts';
import type { Check } from './soak/checks.ts';
import { readSoakOptions } from './soak/options.ts';
import { Soak } from './soak/soak.ts';

const HELP = `npm run soak [-- OPTIONS]

Runs proxies in front of a real RabbitMQ under mixed traffic: publishers with confirms, consumers, legacy and exclusive
queues, clients that come and go, that read slowly and that are reset in the middle of a frame, half of them with TLS.
Meanwhile certificates and configurations are replaced, and the broker is restarted and killed. At the end nothing may be
lost, leaked or logged as an error: the table says what was seen.

  --minutes N        how long: 1 to 600, default 20
  --mode MODE        transparent or pool; default both, a proxy each, in front of the same broker. Repeatable
  --broker VERSION   3.10, 4.0 or 4.3 (default)
  --seed N           what sizes and pauses are chosen by; default another one each time, which is told
  --help             print this

environment:
  QUORUMBRIDGE_CACHE     where fetched brokers are kept
  QUORUMBRIDGE_BROKERS   packages or docker, to choose how brokers are had
  NO_COLOR               no colours

exit status: 0 all held, 1 something did not (the table says what), 2 wrong usage, 3 not possible on this machine,
130 interrupted
`;

function table(checks: readonly Check[]): string {
  const width = Math.max(...checks.map(({ what }) => what.length));
  const lines = checks.map(({ what, seen, holds }) => {
    const mark = holds ? styleText('green', 'PASS') : styleText('red', 'FAIL');
    return `  ${mark}  ${what.padEnd(width)}  ${seen}\n`;
  });
  return `\n${styleText('bold', 'What was seen')}\n${lines.join('')}`;
}

async function main(): Promise<number> {
  const options = readSoakOptions(process.argv.slice(2));
  if (options === 'help') {
    process.stdout.write(HELP);
    return 0;
  }
  if (options instanceof Error) {
    process.stderr.write(`${options.message}\n\n${HELP}`);
    return 2;
  }
  if (!existsSync('/proc/self/status')) {
    process.stderr.write(
      'No soak can be had here: memory and descriptors are read from /proc, which Linux has\n',
    );
    return 3;
  }
  const narrator = createNarrator();
  let interrupted = false;
  const soak = new Soak(options, (line) => {
    if (!interrupted) narrator.progress(line);
  });
  const stop = (why: string, code: number): void => {
    if (interrupted) return;
    interrupted = true;
    process.stdout.write(`\n${why}: stopping everything\n`);
    void soak.end(true).finally(() => process.exit(code));
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => stop(signal, 128 + constants.signals[signal]));
  process.on('uncaughtException', (error) => stop(`a fault of the soak's own (${error.stack})`, 1));
  let checks: Check[] = [];
  try {
    checks = await soak.run();
  } catch (error) {
    if (!interrupted) process.stderr.write(`\nThe soak failed: ${messageOf(error)}\n`);
  }
  if (interrupted) return await new Promise<never>(() => {}); // the handler ends the process
  const isFine = checks.length > 0 && checks.every(({ holds }) => holds);
  await soak.end(isFine);
  if (checks.length > 0) process.stdout.write(table(checks));
  return isFine ? 0 : 1;
}

process.exitCode = await main();
