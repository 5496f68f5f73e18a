// `npm run drill`: a whole upgrade from RabbitMQ 3.10 to 4 with real brokers in real pods, under a client's traffic.
import { parseArgs } from 'node:util';
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { HOME } from '../support/processes.ts';
import { Drill, DrillError } from './drill/drill.ts';
import type { DrillSettings } from './drill/drill.ts';
import { createNarrator } from './narrator.ts';

const HELP = `npm run drill [-- OPTIONS]

Upgrades a RabbitMQ cluster by the annotation target-version, as a user would, and shows what a client sees of it: etcd, API
server, controllers, RabbitMQ's cluster-operator, webhook, reconciler and brokers are the real ones, and pods run as
processes in network namespaces of their own. Nothing of it is left afterwards.

  --from VERSION   3.10 (default)
  --to VERSION     4.0 or 4.3 (default)
  --replicas N     1 (default) or 3
  --retain         storage outlives its claim: the upgrade has to wipe it
  --verbose        tell what each pod does
  --help           print this

environment:
  QUORUMBRIDGE_CACHE   where what was fetched is kept
  NO_COLOR             no colours

exit status: 0 all held, 1 something did not (the table says what), 2 wrong usage, 3 not possible on this machine,
130 interrupted
`;

function readOptions(): DrillSettings | string {
  try {
    const text = { type: 'string' } as const;
    const { values } = parseArgs({
      options: {
        from: text,
        to: text,
        replicas: text,
        retain: { type: 'boolean' },
        verbose: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    });
    if (values.help === true) return '';
    const { from = '3.10', to = '4.3', replicas = '1' } = values;
    for (const [name, value, known] of [
      ['--from', from, ['3.10']],
      ['--to', to, ['4.0', '4.3']],
      ['--replicas', replicas, ['1', '3']],
    ] as const)
      if (!known.some((one) => one === value))
        return `option ${name}: "${value}" is none of ${known.join(', ')}`;
    const { retain = false, verbose = false } = values;
    return { from, to, replicas: Number(replicas), retain, verbose };
  } catch (error) {
    return (error as Error).message;
  }
}

/** Starts itself again in a world of its own; a signal ends it there. */
async function enterWorld({ from, to }: DrillSettings): Promise<number> {
  const script = join(HOME, 'test/support/pods/enter.sh');
  const env = { ...process.env, QUORUMBRIDGE_WORLD_NEEDS: `${from} ${to} control-plane operator` };
  // Its stdin is a pipe: should this process vanish, the world ends.
  const child = spawn(script, [process.execPath, fileURLToPath(import.meta.url), ...process.argv.slice(2)], {
    stdio: ['pipe', 'inherit', 'inherit'],
    env,
    detached: true, // Ctrl-C comes here alone
  });
  let interrupted = 0;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (interrupted === 0) process.stdout.write(`\n${signal}: stopping everything\n`);
      interrupted = 128 + constants.signals[signal];
      child.kill('SIGTERM');
    });
  }
  return new Promise((resolve) => {
    child.once('error', (error) => {
      process.stderr.write(`${script}: ${error.message}\n`);
      resolve(1);
    });
    child.once('exit', (code, signal) => resolve(interrupted || (code ?? 128 + constants.signals[signal!])));
  });
}

async function run(options: DrillSettings): Promise<number> {
  const why = process.env['QUORUMBRIDGE_WORLD_WHY'];
  if (why !== undefined) {
    process.stderr.write(`No drill can be had here: ${why}\n`);
    return 3;
  }
  const drill = new Drill(options, createNarrator());
  let interrupted = false;
  process.once('SIGTERM', () => {
    interrupted = true;
    void drill.end().finally(() => process.exit(1));
  });
  try {
    await drill.run();
  } catch (error) {
    if (interrupted) return await new Promise<never>(() => {}); // the handler ends the process
    if (!(error instanceof DrillError)) throw error;
    process.stderr.write(`\n${error.message}\n`);
    await drill.end();
    return 1;
  }
  const held = drill.tell();
  await drill.end();
  return held ? 0 : 1;
}

const options = readOptions();
if (typeof options === 'string') {
  (options === '' ? process.stdout : process.stderr).write(options === '' ? HELP : `${options}\n\n${HELP}`);
  process.exitCode = options === '' ? 0 : 2;
} else {
  const inside = process.env['QUORUMBRIDGE_WORLD'] ?? process.env['QUORUMBRIDGE_WORLD_WHY'];
  process.exitCode = await (inside === undefined ? enterWorld(options) : run(options));
}
