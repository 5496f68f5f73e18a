import { UsageError } from '../common/errors.ts';
import {
  type OptionTable,
  type OptionValues,
  filePath,
  flag,
  integer,
  oneOf,
  text,
} from '../common/options.ts';
import type { DlqSettings, Target } from '../messaging/dlq/main.ts';
import type { CommandIo, CommandSpec } from './command.ts';

/** Slower ones would keep a message beyond the broker's consumer_timeout. */
function perSecond(value: string): number {
  const rate = /^\d{1,7}(?:\.\d{1,3})?$/.test(value) ? Number(value) : NaN;
  if (!(rate >= 0.001 && rate <= 1_000_000))
    throw new Error('expected a number from 0.001 to 1000000, such as 50 or 0.2');
  return rate;
}

const ACTIONS = ['list', 'show', 'redrive', 'purge'] as const;

/** Options of `quorumbridge dlq`. */
export const dlqOptions = {
  action: {
    name: 'action',
    argument: 'ACTION',
    env: 'QUORUMBRIDGE_ACTION',
    description: 'What to do: list, show, redrive or purge; the first argument says it too.',
    required: true,
    parse: oneOf(...ACTIONS),
  },
  queue: {
    name: 'queue',
    argument: 'QUEUE',
    env: 'QUORUMBRIDGE_QUEUE',
    description: 'The queue that holds the dead letters; the second argument says it too.',
    hiddenDefault: 'required, but for list',
    parse: text(),
  },
  filename: {
    name: 'filename',
    short: 'f',
    argument: 'FILE',
    env: 'QUORUMBRIDGE_FILENAME',
    description:
      'The messaging configuration, docs/messaging.md: it says which queues hold dead letters, and of which queues.',
    required: true,
    parse: filePath(),
  },
  filter: {
    name: 'filter',
    argument: 'FILTER',
    env: 'QUORUMBRIDGE_FILTER',
    description:
      'Only messages of which this holds: reason=WORD (rejected, expired, maxlen or delivery_limit), queue=NAME (where it died), id=MESSAGEID, header.NAME=VALUE or older-than=DURATION. Of several, all have to hold.',
    repeatable: true,
    parse: text(),
  },
  limit: {
    name: 'limit',
    argument: 'N',
    env: 'QUORUMBRIDGE_LIMIT',
    description: 'So many messages at most, of those for which the filters hold.',
    hiddenDefault: 'all; for show 20',
    parse: integer({ min: 1, max: 10_000_000 }),
  },
  content: {
    name: 'content',
    argument: 'OCTETS',
    env: 'QUORUMBRIDGE_CONTENT',
    description: 'For show: print so many octets of each content. It may hold what is not for every eye.',
    default: 0,
    parse: integer({ min: 0, max: 1_048_576 }),
  },
  to: {
    name: 'to',
    argument: 'QUEUE',
    env: 'QUORUMBRIDGE_TO',
    description: 'For redrive: the queue that gets the messages.',
    hiddenDefault: 'the one in which each of them died',
    parse: text(),
  },
  exchange: {
    name: 'exchange',
    argument: 'EXCHANGE',
    env: 'QUORUMBRIDGE_EXCHANGE',
    description: 'For redrive: the exchange that gets the messages. Every queue bound to it gets them again.',
    parse: text(),
  },
  routingKey: {
    name: 'routing-key',
    argument: 'KEY',
    env: 'QUORUMBRIDGE_ROUTING_KEY',
    description: 'With --exchange: the routing key.',
    hiddenDefault: 'the one that each of them had',
    parse: (value: string) => value,
  },
  rate: {
    name: 'rate',
    argument: 'N',
    env: 'QUORUMBRIDGE_RATE',
    description:
      'For redrive: so many messages per second at most, for example 50, or 0.2 for one in five seconds.',
    hiddenDefault: 'as fast as they are confirmed',
    parse: perSecond,
  },
  dryRun: {
    name: 'dry-run',
    env: 'QUORUMBRIDGE_DRY_RUN',
    description: 'For redrive: say what would be done, and publish nothing.',
    parse: flag(),
  },
  yes: {
    name: 'yes',
    env: 'QUORUMBRIDGE_YES',
    description: 'For purge: do it. Otherwise it says how many messages would be lost, with exit code 2.',
    parse: flag(),
  },
  ignoreDeliveryLimit: {
    name: 'ignore-delivery-limit',
    env: 'QUORUMBRIDGE_IGNORE_DELIVERY_LIMIT',
    description:
      'Go on with a quorum queue that has a delivery limit: it drops what has come back too often, and each look counts.',
    parse: flag(),
  },
  json: {
    name: 'json',
    env: 'QUORUMBRIDGE_JSON',
    description: 'Print JSON.',
    parse: flag(),
  },
} as const satisfies OptionTable;

type Values = OptionValues<typeof dlqOptions>;

/** Options that only one action has. */
const ONLY: readonly [keyof Values, (typeof ACTIONS)[number]][] = [
  ['content', 'show'],
  ['to', 'redrive'],
  ['exchange', 'redrive'],
  ['routingKey', 'redrive'],
  ['rate', 'redrive'],
  ['dryRun', 'redrive'],
  ['yes', 'purge'],
];

export const command: CommandSpec<typeof dlqOptions> = {
  name: 'dlq',
  summary: 'Look at dead letters, bring them back to their queues, or take them away.',
  options: dlqOptions,
  positionals: ['action', 'queue'],
  examples: [
    { purpose: 'how many there are', command: 'quorumbridge dlq list -f messaging.yaml' },
    { purpose: 'why they are there', command: 'quorumbridge dlq show shop.dlq -f messaging.yaml' },
    {
      purpose: 'bring back what one queue has rejected',
      command:
        'quorumbridge dlq redrive shop.dlq -f messaging.yaml --filter queue=shop.mail --filter reason=rejected',
    },
    {
      purpose: 'take away what is older than a day',
      command: 'quorumbridge dlq purge shop.dlq -f messaging.yaml --filter older-than=1d --yes',
    },
  ],
  async run(values, io) {
    const { action, filename } = values;
    checkOptions(values);
    const { loadConfig } = await import('../messaging/config.ts');
    const { BrokerFailure } = await import('../messaging/errors.ts');
    const config = loadConfig(filename, process.env);
    for (const warning of config.warnings) io.stderr.write(`warning: ${warning}\n`);
    try {
      if (action === 'list') {
        const { listDeadLetters } = await import('../messaging/dlq/main.ts');
        const { listText } = await import('../messaging/dlq/text.ts');
        const queues = await listDeadLetters(config);
        io.stdout.write(values.json ? jsonOf({ queues }) : listText(queues));
        return 0;
      }
      return await untilInterrupted(values, config, io, work[action]);
    } catch (error) {
      if (!(error instanceof BrokerFailure)) throw error;
      io.stderr.write(`quorumbridge dlq: ${error.message}\n`);
      return 1;
    }
  },
};

function checkOptions(values: Values): void {
  const { action, queue, to, exchange, routingKey } = values;
  for (const [property, only] of ONLY) {
    const isGiven = values[property] !== undefined && values[property] !== false && values[property] !== 0;
    if (isGiven && action !== only)
      throw new UsageError(`option --${dlqOptions[property].name}: only ${only} has it`);
  }
  if (action !== 'list' && queue === undefined)
    throw new UsageError(
      `option --queue: ${action} needs a queue, as in quorumbridge dlq ${action} shop.dlq`,
    );
  if (to !== undefined && exchange !== undefined)
    throw new UsageError('options --to and --exchange: say one of them');
  if (routingKey !== undefined && exchange === undefined)
    throw new UsageError('option --routing-key: it goes with --exchange');
  if (to !== undefined && to === queue)
    throw new UsageError(`option --to: ${to} is where the dead letters are already`);
}

type Work = (settings: DlqSettings, values: Values, print: (text: string) => void) => Promise<number>;

/** Ends in good order at the first signal, and at once at the second. */
async function untilInterrupted(
  values: Values,
  config: DlqSettings['config'],
  io: CommandIo,
  run: Work,
): Promise<number> {
  const { parseFilter } = await import('../messaging/dlq/filter.ts');
  const { ProgressWriter } = await import('../messaging/dlq/progress.ts');
  const filters = values.filter.map(parseFilter);
  const stopping = new AbortController();
  const stop = (): void => stopping.abort();
  const progress = new ProgressWriter(io.stderr);
  const settings: DlqSettings = {
    config,
    queue: values.queue!,
    filters,
    limit: values.limit,
    ignoresDeliveryLimit: values.ignoreDeliveryLimit,
    signal: stopping.signal,
    onProgress: (phase, done, total) => progress.report(phase, done, total),
  };
  process.once('SIGINT', stop).once('SIGTERM', stop);
  try {
    return await run(settings, values, (text) => {
      // In the bar's place, not behind it.
      progress.end();
      io.stdout.write(text);
    });
  } finally {
    progress.end();
    process.off('SIGINT', stop).off('SIGTERM', stop);
  }
}

/** Each action, with the exit code that it ends with. */
const work: Readonly<Record<Exclude<(typeof ACTIONS)[number], 'list'>, Work>> = {
  async show(settings, { limit = 20, content, json }, print) {
    const { showDeadLetters } = await import('../messaging/dlq/main.ts');
    const { showDocument, showText } = await import('../messaging/dlq/text.ts');
    const shown = await showDeadLetters({ ...settings, limit }, content);
    print((json ? showDocument : showText)(shown, content > 0));
    return settings.signal.aborted ? 1 : 0;
  },

  async redrive(settings, values, print) {
    const { redriveDeadLetters } = await import('../messaging/dlq/main.ts');
    const { redrivenText } = await import('../messaging/dlq/text.ts');
    const { dryRun: isDryRun, rate } = values;
    const redriven = await redriveDeadLetters({ ...settings, target: targetOf(values), isDryRun, rate });
    print(values.json ? jsonOf(redriven) : redrivenText(redriven));
    return redriven.failed === 0 && redriven.ended === undefined ? 0 : 1;
  },

  async purge(settings, { yes, json }, print) {
    const { purgeDeadLetters } = await import('../messaging/dlq/main.ts');
    const { purgedText } = await import('../messaging/dlq/text.ts');
    const purged = await purgeDeadLetters(settings, yes);
    print(json ? jsonOf(purged) : purgedText(purged));
    if (!yes) return 2;
    return purged.ended === undefined ? 0 : 1;
  },
};

function targetOf({ to, exchange, routingKey }: Values): Target {
  if (to !== undefined) return { kind: 'queue', name: to };
  return exchange === undefined ? { kind: 'origin' } : { kind: 'exchange', name: exchange, routingKey };
}

function jsonOf(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}
