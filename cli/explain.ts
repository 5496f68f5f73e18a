import { UsageError } from '../common/errors.ts';
import { type OptionTable, flag, seconds, text } from '../common/options.ts';
import type { ExplainedObject, Explanation, RabbitMqSummary } from '../webhook/explain.ts';
import { webhookOptions } from '../webhook/options.ts';
import type { CommandSpec } from './command.ts';

/** Options of `quorumbridge explain`. */
export const explainOptions = {
  kind: {
    name: 'kind',
    argument: 'KIND',
    env: 'QUORUMBRIDGE_KIND',
    description: 'RabbitmqCluster, StatefulSet (sts) or RabbitMq; the first argument says it too.',
    required: true,
    parse: text(),
  },
  name: {
    name: 'name',
    argument: 'NAME',
    env: 'QUORUMBRIDGE_NAME',
    description: "The object's name; the second argument says it too.",
    required: true,
    parse: text(),
  },
  namespace: {
    name: 'namespace',
    short: 'n',
    argument: 'NAMESPACE',
    env: 'QUORUMBRIDGE_NAMESPACE',
    description: 'Its namespace.',
    hiddenDefault: "the kubeconfig's, else default",
    parse: text(),
  },
  json: {
    name: 'json',
    env: 'QUORUMBRIDGE_JSON',
    description: 'Write one JSON object in the place of text.',
    parse: flag(),
  },
  image: { ...webhookOptions.proxyImage, name: 'image' },
  kubeconfig: {
    ...webhookOptions.kubeconfig,
    description: 'Kubeconfig of the cluster.',
    hiddenDefault: "the pod's service account, else ~/.kube/config",
  },
  timeout: {
    name: 'timeout',
    argument: 'SECONDS',
    env: 'QUORUMBRIDGE_TIMEOUT',
    description: 'How long the API server may take.',
    default: 10,
    parse: seconds({ min: 0.1, max: 3600 }),
  },
} as const satisfies OptionTable;

export const command: CommandSpec<typeof explainOptions> = {
  name: 'explain',
  summary:
    'Say why an object of a cluster carries the proxy or does not, and what its next write would change.',
  options: explainOptions,
  positionals: ['kind', 'name'],
  examples: [
    { purpose: 'ask', command: 'quorumbridge explain rabbitmqcluster rabbitmq -n openstack' },
    {
      purpose: 'in a script: exit code 1 when the next write would change something',
      command: 'quorumbridge explain sts rabbitmq-server -n openstack --json',
    },
  ],
  async run({ kind, name, namespace, json, image, kubeconfig, timeout }, io) {
    const { ExplainError, explain, isSettled, kindNamed } = await import('../webhook/explain.ts');
    const { ApiFailure } = await import('../common/kube/api.ts');
    const { findCluster } = await import('../common/kube/access.ts');
    const resource = kindNamed(kind);
    if (resource === undefined) {
      throw new UsageError(
        `option --kind: ${JSON.stringify(kind)} is none that the proxy has to do with: expected RabbitmqCluster, StatefulSet or RabbitMq`,
      );
    }
    const access = await findCluster({
      kubeconfig,
      env: process.env,
      advice: 'name a kubeconfig',
    });
    if (access === undefined)
      throw new UsageError('option --kubeconfig: there is no cluster to ask: name a kubeconfig');
    try {
      const asked = { resource, namespace, name, settings: { image }, timeoutMs: timeout * 1000 };
      const explanation = await explain(access, asked);
      io.stdout.write(json ? `${JSON.stringify(explanation, null, 2)}\n` : asText(explanation));
      return isSettled(explanation) ? 0 : 1;
    } catch (error) {
      if (!(error instanceof ExplainError) && !(error instanceof ApiFailure)) throw error;
      throw new UsageError(error.message, { cause: error });
    }
  },
};

function line(label: string, value: string): string {
  return `  ${`${label}:`.padEnd(12)}${value}\n`;
}

function asText({ rabbitmq, objects }: Explanation): string {
  let out = '';
  if (rabbitmq !== undefined) {
    out += `RabbitMq ${rabbitmq.namespace}/${rabbitmq.name}\n${line('state', stateOf(rabbitmq))}`;
    out += rabbitmq.problems.map((problem) => line('problem', problem)).join('');
    if (rabbitmq.queueTypeDefault !== null) {
      out += line('next write', `would set spec.queueType to ${rabbitmq.queueTypeDefault}`);
    }
    if (objects.length === 0) out += line('cluster', 'there is no RabbitmqCluster of this name');
    else out += '\n';
  }
  return out + objects.map(objectText).join('\n');
}

function stateOf({
  currentVersion,
  target,
  queueType,
  upgradePhase,
  proxyRequired,
}: RabbitMqSummary): string {
  const facts = { version: currentVersion, target, 'queue type': queueType, phase: upgradePhase };
  const said = Object.entries(facts).map(([fact, value]) => `${fact} ${value ?? '-'}`);
  return [...said, `proxy required ${proxyRequired ?? '-'}`].join(', ');
}

function objectText({
  kind,
  namespace,
  name,
  decision,
  proxy,
  owner,
  admission,
  warnings,
}: ExplainedObject): string {
  const has =
    proxy === undefined
      ? 'no proxy'
      : proxy.isOurs
        ? 'has the proxy'
        : 'has a container of that name which was not injected';
  let out = `${kind} ${namespace}/${name}: ${has}\n`;
  out += line('decision', `${decision.inject}: ${decision.message} [${decision.reason}]`);
  if (owner.state === 'found')
    out += line('owner', `RabbitMq ${owner.rabbitmq.name}: ${stateOf(owner.rabbitmq)}`);
  else out += line('owner', owner.state === 'absent' ? 'no RabbitMq' : `not known: ${owner.why}`);
  if (proxy !== undefined) {
    const { image, mode, preset, rules, logLevel, form } = proxy;
    out += line('image', image);
    out += line(
      'settings',
      `mode ${mode}, preset ${preset}, rules ${rules ?? 'none'}, log level ${logLevel}, ${form}`,
    );
  }
  if (admission.would === 'change nothing') out += line('next write', 'would change nothing');
  else if (admission.would === 'be denied') {
    out += line('next write', `would be denied (${admission.code}): ${admission.message}`);
  } else {
    const deed = { inject: 'inject the proxy', remove: 'take the proxy out', repair: 'change the proxy' };
    out += line('next write', `would ${deed[admission.would]}, in`);
    out += admission.fields.map((field) => line('', field).replace(':', ' ')).join('');
  }
  return out + warnings.map((warning) => line('warning', warning)).join('');
}
