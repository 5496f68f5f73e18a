// `npm run demo`: a 3.x-era client fails on RabbitMQ 4.3 and, unchanged, works through what Quorumbridge injects.
import { parseArgs } from 'node:util';
import { createNarrator, table } from './narrator.ts';
import { Scenario, StepError } from './scenario.ts';

const HELP = `npm run demo [-- OPTIONS]

Shows a legacy client fail on RabbitMQ 4.3 and work through the injected proxy, on real parts.
The first run fetches RabbitMQ 3.10 and 4.3 (Debian packages into ~/.cache/quorumbridge, or Docker images).

  --keep   leave everything running at the end, and print how to connect and how to stop it
  --help   print this

environment:
  QUORUMBRIDGE_BROKER_URL      a RabbitMQ 4 of your own, amqp[s]://USER:PASSWORD@HOST:PORT/VHOST
  QUORUMBRIDGE_MANAGEMENT_URL  its management API (default http://HOST:15672)
  QUORUMBRIDGE_CACHE           where fetched brokers are kept
  QUORUMBRIDGE_BROKERS         packages or docker, to choose how brokers are had
  NO_COLOR                     no colours

exit status: 0 all shown, 1 a step failed (the last line says which and why), 2 wrong usage, 130 interrupted
`;

function readOptions(): { keep: boolean; help: boolean } | string {
  try {
    const { values } = parseArgs({
      options: { keep: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
    });
    return { keep: values.keep === true, help: values.help === true };
  } catch (error) {
    return (error as Error).message;
  }
}

async function main(): Promise<number> {
  const options = readOptions();
  if (typeof options === 'string') {
    process.stderr.write(`${options}\n\n${HELP}`);
    return 2;
  }
  if (options.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const began = Date.now();
  const scenario = new Scenario(createNarrator(), options.keep);
  let interrupted = false;
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const) {
    process.on(signal, () => {
      if (interrupted) return;
      interrupted = true;
      process.stdout.write(`\n${signal}: stopping everything\n`);
      void scenario.end().finally(() => process.exit(code));
    });
  }
  let failure: StepError | undefined;
  try {
    await scenario.run(process.env);
  } catch (error) {
    if (!(error instanceof StepError)) throw error;
    failure = error;
  }
  if (interrupted) return await new Promise<never>(() => {}); // the handler ends the process
  process.stdout.write(table(scenario.rows));
  if (options.keep && failure === undefined) {
    process.stdout.write(
      `\nEverything runs on:\n${(await scenario.keep()).map((line) => `  ${line}\n`).join('')}`,
    );
  } else {
    await scenario.end();
  }
  const seconds = ((Date.now() - began) / 1000).toFixed(0);
  if (failure === undefined) {
    process.stdout.write(`\nShown in ${seconds} s${options.keep ? '' : '; nothing is left running'}.\n`);
    return 0;
  }
  process.stderr.write(`\n${failure.message}\n`);
  return 1;
}

process.exitCode = await main();
