// The work of `quorumbridge topology`: one connection, one look at the broker, and what follows of it.
import type { ChannelModel } from 'amqplib';
import { UsageError } from '../../common/errors.ts';
import { formatHostPort } from '../../common/options.ts';
import type { Version } from '../../common/version.ts';
import type { MessagingConfig } from '../config.ts';
import { closeConnection, openConnection, versionOf } from '../connection.ts';
import { BrokerFailure } from '../errors.ts';
import { deleteTopology, declareTopology } from './apply.ts';
import { type Declaration, declarations } from './declarations.ts';
import { type Exported, exportTopology } from './export.ts';
import { observe } from './management.ts';
import type { Observed } from './observed.ts';
import { type Applied, type Extras, type Plan, compare, extrasOf } from './plan.ts';
import { probe } from './probe.ts';
import { describeDeclaration } from './text.ts';

export interface TopologySettings {
  readonly config: MessagingConfig;
  /** The management API's URL; `none` for AMQP alone; undefined for the broker's host and the usual port. */
  readonly management: string | undefined;
  /** How long each question to it may take. */
  readonly timeoutMs: number;
}

/** What would be done, and what is in the way. It changes nothing. @throws BrokerFailure, UsageError */
export function planTopology(settings: TopologySettings): Promise<Plan> {
  return withBroker(settings, async (broker) => broker.plan);
}

/**
 * Declares what is not there, unless something is in the way. With `isDeleting`, bindings between a queue and an exchange of the
 * file that the file doesn't have are taken away, and what is in conflict is made anew, where nothing is lost with it.
 * @throws BrokerFailure, UsageError
 */
export function applyTopology(settings: TopologySettings, isDeleting: boolean): Promise<Applied> {
  return withBroker(settings, async ({ model, plan, observed, wanted }) => {
    const isBlocked = plan.items.some(
      ({ status }) => status === 'missing' || (status === 'conflict' && !isDeleting),
    );
    if (isBlocked) return { plan, deleted: [], isDone: false };
    const { connectTimeoutMs } = settings.config.connection;
    const known = isDeleting ? knownBy(plan, observed, 'apply --delete') : undefined;
    const deleted = known === undefined ? [] : await clear(model, plan, known, connectTimeoutMs);
    await declareTopology(model, wanted, connectTimeoutMs);
    return { plan, deleted, isDone: true };
  });
}

/** Describes what the virtual host has. @throws BrokerFailure, UsageError */
export function readTopology(settings: TopologySettings): Promise<Exported & { readonly version: Version }> {
  return withBroker(settings, async ({ plan, observed }) => ({
    version: plan.version,
    ...exportTopology(knownBy(plan, observed, 'export')),
  }));
}

/** File and broker, in both directions. @throws BrokerFailure, UsageError */
export function diffTopology(settings: TopologySettings): Promise<Plan & { readonly extras: Extras }> {
  return withBroker(settings, async ({ plan, observed, wanted }) => ({
    ...plan,
    extras: extrasOf(wanted, knownBy(plan, observed, 'diff')),
  }));
}

/** True where file and broker agree. */
export function isSettled({ items, extras }: Pick<Plan, 'items' | 'extras'>): boolean {
  const { exchanges = [], queues = [], bindings = [] } = extras ?? {};
  return (
    items.every(({ status }) => status === 'same') && [...exchanges, ...queues, ...bindings].length === 0
  );
}

interface Broker {
  readonly model: ChannelModel;
  readonly wanted: readonly Declaration[];
  readonly plan: Plan;
  readonly observed: Observed | undefined;
}

async function withBroker<T>(settings: TopologySettings, run: (broker: Broker) => Promise<T>): Promise<T> {
  const { config } = settings;
  const model = await openConnection(config.connection, 'quorumbridge topology');
  // What ends the connection rejects the call that is under way as well.
  model.on('error', () => {});
  try {
    const version = versionOf(model);
    const wanted = declarations(config, version);
    const { observed, note } = await ask(settings, model);
    const items =
      observed === undefined
        ? await probe(model, wanted, config.connection.connectTimeoutMs)
        : compare(wanted, observed);
    const extras = observed === undefined ? undefined : extrasOf(wanted, observed);
    return await run({ model, wanted, observed, plan: { version, items, note, extras } });
  } finally {
    await closeConnection(model);
  }
}

async function ask(
  { config: { connection }, management, timeoutMs }: TopologySettings,
  model: ChannelModel,
): Promise<{ observed: Observed | undefined; note: string | undefined }> {
  if (management === 'none')
    return {
      observed: undefined,
      note: '--management=none: bindings and what only the broker has are not known',
    };
  const isTls = connection.tls !== undefined;
  const usual = formatHostPort({ host: connection.host, port: isTls ? 15_671 : 15_672 });
  const url = management ?? `${isTls ? 'https' : 'http'}://${usual}`;
  const clusterName = model.connection.serverProperties['cluster_name'];
  try {
    return { observed: await observe({ url, connection, timeoutMs, clusterName }), note: undefined };
  } catch (error) {
    // Whoever names the API wants it to be asked.
    if (management !== undefined || !(error instanceof BrokerFailure)) throw error;
    const note = `${error.message}; bindings and what only the broker has are not known: give --management`;
    return { observed: undefined, note };
  }
}

function knownBy(plan: Plan, observed: Observed | undefined, what: string): Observed {
  if (observed === undefined) throw new UsageError(`${what} needs the management API: ${plan.note ?? ''}`);
  return observed;
}

async function clear(
  model: ChannelModel,
  plan: Plan,
  observed: Observed,
  timeoutMs: number,
): Promise<readonly string[]> {
  const conflicts = plan.items
    .filter(({ status }) => status === 'conflict')
    .map(({ declaration }) => declaration);
  const names = (kind: 'exchange' | 'queue', from: readonly Declaration[]): Set<string> =>
    new Set(from.flatMap((one) => (one.kind === kind && one.declare ? [one.name] : [])));
  const declared = plan.items.map(({ declaration }) => declaration);
  const [exchanges, queues] = [names('exchange', declared), names('queue', declared)];
  const bindings = (plan.extras?.bindings ?? []).filter(
    ({ source, destination }) => exchanges.has(source) && queues.has(destination),
  );
  const [oldExchanges, oldQueues] = [names('exchange', conflicts), names('queue', conflicts)];
  for (const binding of [...(plan.extras?.bindings ?? []), ...observed.exchangeBindings]) {
    const { source, destination } = binding;
    const isLost = oldExchanges.has(source) || oldExchanges.has(destination) || oldQueues.has(destination);
    if (isLost && !bindings.includes(binding)) {
      throw new BrokerFailure(
        `nothing is changed: ${describeDeclaration(binding)} would be lost, and the file does not have it; unbind it first, or put it into the file`,
      );
    }
  }
  const deletions = {
    exchanges: [...oldExchanges],
    queues: [...oldQueues].map((name) => observed.queues.get(name)!),
    bindings,
  };
  await deleteTopology(model, deletions, timeoutMs);
  return [...bindings.map(describeDeclaration), ...conflicts.map(describeDeclaration)];
}
