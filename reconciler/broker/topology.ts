// Declares a messaging topology by the management API: behind an injected proxy, AMQP would make something else of it.
import type { JsonObject } from '../../common/kube/types.ts';
import { parseVersion } from '../../common/version.ts';
import type { TopologyConfig } from '../../messaging/config.ts';
import { type Declaration, declarations } from '../../messaging/topology/declarations.ts';
import { observedOf } from '../../messaging/topology/management.ts';
import type { ObservedQueue } from '../../messaging/topology/observed.ts';
import { type PlanItem, compare } from '../../messaging/topology/plan.ts';
import { describeDeclaration, obstaclesOf } from '../../messaging/topology/text.ts';
import { importDefinitions } from './import.ts';
import { type Definition, nameOf, pickDefinitions } from './kinds.ts';
import { type Management, ManagementFailure } from './management.ts';

/** What came of a topology. */
export type TopologyOutcome =
  | {
      readonly result: 'declared';
      /** Exchanges, queues and bindings that were made, of all that the file has. */
      readonly created: number;
      readonly total: number;
    }
  /**
   * `conflict`: something is there otherwise, or not there though others have to declare it; nothing was declared.
   * `refused`: the broker did not take something, and has all else. `why` is for people.
   */
  | { readonly result: 'conflict' | 'refused'; readonly why: string };

/**
 * Declares what is not there, unless something is in the way; nothing is deleted or changed. Doing it again changes nothing.
 * @throws ManagementFailure
 */
export async function declareTopology(
  management: Management,
  config: Pick<TopologyConfig, 'vhost' | 'exchanges'>,
  signal: AbortSignal,
): Promise<TopologyOutcome> {
  const { vhost } = config;
  const look = async (): Promise<readonly PlanItem[]> => planOf(management, config, signal);
  const items = await look();
  const obstacles = obstaclesOf(items);
  if (obstacles.length > 0) return { result: 'conflict', why: obstacles.join('; ') };
  const lacking = items.flatMap(({ declaration, status }) => (status === 'create' ? [declaration] : []));
  const created = lacking.length;
  const total = items.length;
  if (created === 0) return { result: 'declared', created, total };
  const definitions = pickDefinitions(lacking.map((declaration) => definitionOf(vhost, declaration)));
  const refusals = await importDefinitions(management, definitions, signal);
  // RabbitMQ says that all is well, too, where somebody else was faster, or where it leaves something out.
  const after = await look();
  const why = [
    ...refusals.map(({ definition, said }) => `${definition.kind} ${nameOf(definition)}: ${said}`),
    ...obstaclesOf(after),
  ];
  const left = after.filter(({ status }) => status === 'create');
  if (refusals.length === 0)
    why.push(...left.map(({ declaration }) => `${describeDeclaration(declaration)} was left out`));
  return why.length === 0
    ? { result: 'declared', created, total }
    : { result: 'refused', why: why.join('; ') };
}

async function planOf(
  management: Management,
  config: Pick<TopologyConfig, 'vhost' | 'exchanges'>,
  signal: AbortSignal,
): Promise<readonly PlanItem[]> {
  const { version: said } = await management.overview(signal);
  // Debian and others write 4.0.5-1 or the like.
  const version = parseVersion(/^\d+\.\d+(?:\.\d+)?/.exec(said)?.[0]);
  if (version === undefined)
    throw new ManagementFailure(`the broker says it is RabbitMQ ${said}, which is no version`);
  const queues = await management.queues(signal);
  const at = encodeURIComponent(config.vhost);
  try {
    const exchanges = await management.list(`exchanges/${at}`, signal);
    const columns = 'source,destination,destination_type,routing_key,arguments';
    const bindings = await management.list(`bindings/${at}?columns=${columns}`, signal);
    const own = queues.filter(({ vhost }) => vhost === config.vhost) as unknown as ObservedQueue[];
    return compare(declarations(config, version), observedOf(version, { exchanges, queues: own, bindings }));
  } catch (error) {
    if (!(error instanceof ManagementFailure) || error.code !== 404) throw error;
    throw new ManagementFailure(
      `the broker has no virtual host ${JSON.stringify(config.vhost)}: make it, or name another one by vhost in the file`,
    );
  }
}

function definitionOf(vhost: string, declaration: Declaration): Definition {
  const { kind, arguments: table } = declaration;
  const common = { vhost, arguments: table as JsonObject };
  if (kind === 'binding') {
    const { source, destination, routingKey } = declaration;
    const binding = { source, destination, destination_type: 'queue', routing_key: routingKey };
    return { kind: 'bindings', object: { ...common, ...binding } };
  }
  const { name } = declaration;
  if (kind === 'queue')
    return { kind: 'queues', object: { ...common, name, durable: true, auto_delete: false } };
  const { type, durable } = declaration;
  return {
    kind: 'exchanges',
    object: { ...common, name, type, durable, auto_delete: false, internal: false },
  };
}
