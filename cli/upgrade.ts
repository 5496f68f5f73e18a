import { UsageError } from '../common/errors.ts';
import { type OptionTable, oneOf, text } from '../common/options.ts';
import type { CommandSpec } from './command.ts';
import { explainOptions } from './explain.ts';

const OUTPUTS = ['text', 'json', 'markdown'] as const;

/** Options of `quorumbridge upgrade`. */
export const upgradeOptions = {
  action: {
    name: 'action',
    argument: 'ACTION',
    env: 'QUORUMBRIDGE_ACTION',
    description: 'What to do: report; the first argument says it too.',
    required: true,
    parse: oneOf('report'),
  },
  name: {
    name: 'name',
    argument: 'NAME',
    env: 'QUORUMBRIDGE_NAME',
    description: 'The RabbitMq; the second argument says it too.',
    required: true,
    parse: text(),
  },
  namespace: explainOptions.namespace,
  output: {
    name: 'output',
    short: 'o',
    argument: 'FORMAT',
    env: 'QUORUMBRIDGE_OUTPUT',
    description: 'How it is written: text, json or markdown, for a ticket.',
    default: 'text',
    parse: oneOf(...OUTPUTS),
  },
  kubeconfig: explainOptions.kubeconfig,
  timeout: explainOptions.timeout,
} as const satisfies OptionTable;

export const command: CommandSpec<typeof upgradeOptions> = {
  name: 'upgrade',
  summary: 'Tell what an upgrade kept, changed, dropped and lost, and when it did what.',
  options: upgradeOptions,
  positionals: ['action', 'name'],
  examples: [
    { purpose: 'the latest upgrade', command: 'quorumbridge upgrade report rabbitmq -n openstack' },
    {
      purpose: 'as a ticket',
      command: 'quorumbridge upgrade report rabbitmq -n openstack -o markdown > ticket.md',
    },
  ],
  async run({ name, namespace, output, kubeconfig, timeout }, io) {
    const { readUpgrade } = await import('./upgrade/read.ts');
    const { ApiFailure, connectApi } = await import('../common/kube/api.ts');
    const { findCluster } = await import('../common/kube/access.ts');
    const { openCluster } = await import('../common/kube/open.ts');
    const access = await findCluster({ kubeconfig, env: process.env, advice: 'name a kubeconfig' });
    if (access === undefined)
      throw new UsageError('option --kubeconfig: there is no cluster to ask: name a kubeconfig');
    const cluster = await openCluster(access);
    try {
      const own = cluster.config.getContextObject(cluster.config.getCurrentContext())?.namespace;
      const place = { namespace: namespace ?? own ?? 'default', name };
      const upgrade = await readUpgrade(connectApi(cluster), place, AbortSignal.timeout(timeout * 1000));
      if (output === 'json') io.stdout.write(`${JSON.stringify(upgrade, null, 2)}\n`);
      else if (output === 'text') io.stdout.write((await import('./upgrade/text.ts')).asText(upgrade));
      else io.stdout.write((await import('./upgrade/markdown.ts')).asMarkdown(upgrade));
      return 0;
    } catch (error) {
      if (!(error instanceof ApiFailure)) throw error;
      throw new UsageError(error.message, { cause: error });
    } finally {
      await cluster.pool.destroy();
    }
  },
};
