import { text as textOf } from 'node:stream/consumers';
import { UsageError, messageOf } from '../common/errors.ts';
import { flag, type OptionTable, text } from '../common/options.ts';
import type { Declare } from '../proxy/declare.ts';
import { proxyOptions } from '../proxy/options.ts';
import {
  type BrokerVersion,
  compareVersions,
  formatVersion,
  NEWEST,
  parseVersion,
} from '../proxy/version.ts';
import type { CommandSpec } from './command.ts';

/** The oldest version that has quorum queues. */
const OLDEST: BrokerVersion = { major: 3, minor: 8 };

function brokerVersion(value: string): BrokerVersion {
  const version = parseVersion(value);
  if (version === undefined || compareVersions(version, OLDEST) < 0 || compareVersions(version, NEWEST) > 0) {
    throw new Error(
      `expected a version from ${formatVersion(OLDEST)} to ${formatVersion(NEWEST)}, such as 4.0`,
    );
  }
  return version;
}

/** Options of `quorumbridge rewrite`. */
export const rewriteOptions = {
  explain: {
    name: 'explain',
    argument: 'DECLARE',
    env: 'QUORUMBRIDGE_DECLARE',
    description:
      "What a client sends, as JSON: the method's arguments by name, and method, which is queue.declare unless given; - is standard input.",
    required: true,
    parse: text(),
  },
  broker: {
    name: 'broker',
    argument: 'VERSION',
    env: 'QUORUMBRIDGE_BROKER',
    description: 'The version of RabbitMQ behind the proxy, from 3.8 to 4.3.',
    default: NEWEST,
    hiddenDefault: formatVersion(NEWEST),
    parse: brokerVersion,
  },
  preset: proxyOptions.preset,
  rules: proxyOptions.rules,
  vhost: {
    name: 'vhost',
    argument: 'NAME',
    env: 'QUORUMBRIDGE_VHOST',
    description: "The client's virtual host.",
    default: '/',
    parse: text(),
  },
  user: {
    name: 'user',
    argument: 'NAME',
    env: 'QUORUMBRIDGE_USER',
    description: "The client's user. Without it no rule for users matches.",
    parse: text(),
  },
  json: {
    name: 'json',
    env: 'QUORUMBRIDGE_JSON',
    description: 'Write one JSON object in the place of text.',
    parse: flag(),
  },
} as const satisfies OptionTable;

export const command: CommandSpec<typeof rewriteOptions> = {
  name: 'rewrite',
  summary: 'Explain what the proxy makes of a declare: which rule decides, what it does and why.',
  options: rewriteOptions,
  examples: [
    {
      purpose: 'an auto-delete queue',
      command: `quorumbridge rewrite --explain '{"queue": "events", "auto_delete": true}'`,
    },
    {
      purpose: 'with rules, as a client of nova meets them on RabbitMQ 4.0',
      command: [
        `quorumbridge rewrite --explain '{"queue": "reply_1"}' --broker 4.0 \\`,
        '  --rules rules.yaml --user nova --vhost /nova',
      ].join('\n'),
    },
    {
      purpose: 'another method',
      command: `quorumbridge rewrite --explain '{"method": "basic.qos", "prefetch_count": 5, "global": true}'`,
    },
  ],
  async run(values, io) {
    const { readDeclare } = await import('../proxy/declare.ts');
    const { explain } = await import('../proxy/explain.ts');
    const { explanationJson, explanationText } = await import('../proxy/explanation.ts');
    const { loadRules } = await import('../proxy/policy/load.ts');
    const source = values.explain === '-' ? await textOf(io.stdin) : values.explain;
    let declare: Declare;
    try {
      declare = readDeclare(source);
    } catch (error) {
      throw new UsageError(`option --explain: ${messageOf(error)}`);
    }
    const { vhost: virtualHost, user, broker } = values;
    const policy = loadRules(values).policies.for({ virtualHost, user, broker });
    const explanation = explain(declare, policy, broker);
    const write = values.json ? explanationJson : explanationText;
    io.stdout.write(write(declare, explanation, broker));
    return 0;
  },
};
