import { UsageError } from '../common/errors.ts';
import { type OptionTable, filePath, flag, oneOf, seconds, text } from '../common/options.ts';
import type { TopologySettings } from '../messaging/topology/main.ts';
import type { CommandIo, CommandSpec } from './command.ts';

const ACTIONS = ['plan', 'apply', 'export', 'diff'] as const;

/** Options of `quorumbridge topology`. */
export const topologyOptions = {
  action: {
    name: 'action',
    argument: 'ACTION',
    env: 'QUORUMBRIDGE_ACTION',
    description: 'What to do: plan, apply, export or diff; the first argument says it too.',
    required: true,
    parse: oneOf(...ACTIONS),
  },
  filename: {
    name: 'filename',
    short: 'f',
    argument: 'FILE',
    env: 'QUORUMBRIDGE_FILENAME',
    description: 'The messaging configuration, docs/messaging.md; export takes only the connection from it.',
    hiddenDefault: 'required; for export a broker on this machine',
    parse: filePath(),
  },
  management: {
    name: 'management',
    argument: 'URL',
    env: 'QUORUMBRIDGE_MANAGEMENT',
    description:
      "URL of the broker's management API, or none: AMQP alone can't tell bindings, nor what only the broker has.",
    hiddenDefault: "the broker's host, port 15672, with TLS 15671",
    parse: text(),
  },
  delete: {
    name: 'delete',
    env: 'QUORUMBRIDGE_DELETE',
    description:
      'For apply: take away bindings between an exchange and a queue of the file that the file does not have, and make anew what is in conflict, if it holds no message, has no consumer and nothing else is bound to it.',
    parse: flag(),
  },
  json: {
    name: 'json',
    env: 'QUORUMBRIDGE_JSON',
    description: 'Print JSON.',
    parse: flag(),
  },
  timeout: {
    name: 'timeout',
    argument: 'SECONDS',
    env: 'QUORUMBRIDGE_TIMEOUT',
    description: 'How long the management API may take for each answer.',
    default: 10,
    parse: seconds({ min: 0.1, max: 3600 }),
  },
} as const satisfies OptionTable;

export const command: CommandSpec<typeof topologyOptions> = {
  name: 'topology',
  summary: 'Declare the exchanges, queues and bindings of a file on a broker, and compare both.',
  options: topologyOptions,
  positionals: ['action'],
  examples: [
    {
      purpose: 'what would be declared, and what is in the way',
      command: 'quorumbridge topology plan -f messaging.yaml',
    },
    { purpose: 'declare it', command: 'quorumbridge topology apply -f messaging.yaml' },
    {
      purpose: 'a file from a running broker',
      command: 'RABBITMQ_HOST=10.0.0.7 RABBITMQ_PASSWORD=… quorumbridge topology export > messaging.yaml',
    },
    {
      purpose: 'in CI: exit code 1 when file and broker differ',
      command: 'quorumbridge topology diff -f messaging.yaml',
    },
  ],
  async run({ action, filename, management, delete: isDeleting, json, timeout }, io) {
    if (isDeleting && action !== 'apply') throw new UsageError('option --delete: only apply deletes');
    if (filename === undefined && action !== 'export')
      throw new UsageError(
        `option --filename: ${action} needs a file, as in quorumbridge topology ${action} -f messaging.yaml`,
      );
    const { loadConfig, parseMessaging } = await import('../messaging/config.ts');
    const { BrokerFailure } = await import('../messaging/errors.ts');
    const config =
      filename === undefined
        ? parseMessaging('the environment', '', process.env)
        : loadConfig(filename, process.env);
    for (const warning of config.warnings) io.stderr.write(`warning: ${warning}\n`);
    const settings = { config, management: urlOf(management), timeoutMs: timeout * 1000 };
    try {
      return await work[action](settings, { isDeleting, json, io });
    } catch (error) {
      if (!(error instanceof BrokerFailure)) throw error;
      io.stderr.write(`quorumbridge topology: ${error.message}\n`);
      return 1;
    }
  },
};

interface Manner {
  readonly isDeleting: boolean;
  readonly json: boolean;
  readonly io: CommandIo;
}

/** Each action, with the exit code that it ends with. */
const work: Readonly<
  Record<(typeof ACTIONS)[number], (settings: TopologySettings, manner: Manner) => Promise<number>>
> = {
  async plan(settings, { json, io }) {
    const { planTopology } = await import('../messaging/topology/main.ts');
    const { documentOf, headText, planText } = await import('../messaging/topology/text.ts');
    const plan = await planTopology(settings);
    io.stdout.write(
      json ? documentOf(plan) : headText(plan, settings.config.connection) + planText(plan.items),
    );
    return plan.items.some(({ status }) => status === 'conflict' || status === 'missing') ? 1 : 0;
  },

  async apply(settings, { isDeleting, json, io }) {
    const { applyTopology } = await import('../messaging/topology/main.ts');
    const { appliedText, documentOf, headText } = await import('../messaging/topology/text.ts');
    const applied = await applyTopology(settings, isDeleting);
    const { plan, deleted, isDone } = applied;
    io.stdout.write(
      json
        ? documentOf({ ...plan, deleted, isDone })
        : headText(plan, settings.config.connection) + appliedText(applied),
    );
    return isDone ? 0 : 1;
  },

  async export(settings, { json, io }) {
    const { readTopology } = await import('../messaging/topology/main.ts');
    const { fileOf, yamlOf } = await import('../messaging/topology/file.ts');
    const exported = await readTopology(settings);
    const { connection } = settings.config;
    const whole = json
      ? `${JSON.stringify(fileOf(exported, connection), null, 2)}\n`
      : yamlOf(exported, connection);
    io.stdout.write(whole);
    return 0;
  },

  async diff(settings, { json, io }) {
    const { diffTopology, isSettled } = await import('../messaging/topology/main.ts');
    const { documentOf, headText, planText } = await import('../messaging/topology/text.ts');
    const diff = await diffTopology(settings);
    const text = headText(diff, settings.config.connection) + planText(diff.items, diff.extras);
    io.stdout.write(json ? documentOf(diff) : text);
    return isSettled(diff) ? 0 : 1;
  },
};

function urlOf(management: string | undefined): string | undefined {
  if (management === undefined || management === 'none') return management;
  const url = URL.parse(management);
  if (url === null || !/^https?:$/.test(url.protocol) || url.username !== '' || url.search !== '')
    throw new UsageError(
      'option --management: expected none or a URL such as http://127.0.0.1:15672, without credentials: those of the file are used',
    );
  return management;
}
