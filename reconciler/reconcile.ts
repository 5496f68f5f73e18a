// One look at one RabbitMq: observe, plan, act, say.
import { ANNOTATION, UPGRADE_ANNOTATION } from '../common/contract.ts';
import { messageOf } from '../common/errors.ts';
import type { Api } from '../common/kube/api.ts';
import { isObject, valueAt } from '../common/kube/json.ts';
import { RABBITMQ } from '../common/kube/resources.ts';
import type { JsonObject, KubeObject } from '../common/kube/types.ts';
import type { Logger } from '../common/log.ts';
import { type Deed, act } from './act.ts';
import type { Broker } from './broker/access.ts';
import { type ClientsLookup, clientsStatus, judgeRemoval } from './clients.ts';
import { condition } from './conditions.ts';
import { observe, readAgain } from './observe.ts';
import { plan } from './plan.ts';
import { isConflict, writeStatus } from './status.ts';
import type { ConditionNow, Observed, Plan, PlanSettings, Step, Telling } from './types.ts';
import { telling } from './tellings.ts';

export interface ReconcilerSettings extends PlanSettings {
  /** How often the proxies are asked about their clients, in milliseconds. */
  readonly clientsIntervalMs: number;
}

/** What the reconciler works with. */
export interface Surroundings {
  readonly api: Api;
  readonly broker: Broker;
  readonly clients: ClientsLookup;
  readonly settings: ReconcilerSettings;
  readonly log: Logger;
  /** Tells an Event about the RabbitMq; never throws. */
  readonly tell: (object: KubeObject, event: Telling) => void;
  readonly now: () => Date;
  /** Told what a RabbitMq is like at each look, and undefined when it is gone; for metrics. */
  readonly seen?: (key: Key, observed: Observed | undefined) => void;
}

export interface Key {
  readonly namespace: string;
  readonly name: string;
}

/** When to look again though nothing has changed, in milliseconds; absent: when something does. */
export interface Outcome {
  readonly requeueAfterMs?: number;
}

export type Reconcile = (key: Key, signal: AbortSignal) => Promise<Outcome>;

/** A step that changed nothing is not tried again before this. */
const UNCHANGED_MS = 10_000;
/** Somebody else wrote in the same moment: what they wrote is read. */
const CONFLICT_MS = 200;

/** So often a status is written over what others have written meanwhile. */
const WRITES = 5;

/**
 * Makes the function that looks at one RabbitMq and does the next thing about it. It keeps nothing between two calls but
 * when the proxies were asked last, so that any replica can go on from where another stopped.
 * It rejects when something could not be read or written; the condition Degraded says so, too, if that can be written.
 */
export function createReconciler(surroundings: Surroundings): Reconcile {
  const { api, broker, now, seen } = surroundings;
  const asked = new Map<string, number>();
  return async (key, signal) => {
    const { namespace, name } = key;
    const object = await api.get(RABBITMQ, namespace, name, signal);
    if (object === undefined) {
      asked.delete(`${namespace}/${name}`);
      seen?.(key, undefined);
      return {};
    }
    const observed = await observe(api, object, broker.observe, now(), signal);
    seen?.(key, observed);
    return new Look(surroundings, asked, observed, signal).take(plan(observed, surroundings.settings));
  };
}

/** What is done about one observation. */
class Look {
  readonly #surroundings: Surroundings;
  readonly #asked: Map<string, number>;
  readonly #observed: Observed;
  readonly #signal: AbortSignal;

  constructor(
    surroundings: Surroundings,
    asked: Map<string, number>,
    observed: Observed,
    signal: AbortSignal,
  ) {
    this.#surroundings = surroundings;
    this.#asked = asked;
    this.#observed = observed;
    this.#signal = signal;
  }

  async take({ step, conditions }: Plan): Promise<Outcome> {
    if (step.do === 'wait') return this.#wait(step, conditions);
    if (step.do !== 'write status') return this.#perform(step, conditions);
    const isWritten = await this.#say(step.status, conditions);
    if (!isWritten) return { requeueAfterMs: CONFLICT_MS };
    for (const each of step.tell) this.#tell(each);
    return { requeueAfterMs: 0 };
  }

  /** There is time to ask the proxies. */
  async #wait(
    { afterMs = Infinity, tell = [] }: Step & { do: 'wait' },
    conditions: readonly ConditionNow[],
  ): Promise<Outcome> {
    const { rabbitmq } = this.#observed;
    const isQuiet = rabbitmq.status.upgradePhase === '' && !rabbitmq.isPaused && !rabbitmq.isDeleting;
    const about = isQuiet ? await this.#askProxies() : NOTHING;
    const status = { ...about.status, observedGeneration: rabbitmq.generation };
    const isWritten = await this.#say(status, [...conditions, ...about.conditions]);
    if (!isWritten) return { requeueAfterMs: CONFLICT_MS };
    for (const each of tell) this.#tell(each);
    if (about.isRemovalDue) return this.#removeProxy();
    const next = Math.min(afterMs, about.pollMs);
    return Number.isFinite(next) ? { requeueAfterMs: next } : {};
  }

  async #perform(step: Deed, conditions: readonly ConditionNow[]): Promise<Outcome> {
    const { api, broker, now, log } = this.#surroundings;
    const { namespace, name } = this.#observed.rabbitmq;
    try {
      const done = await act(step, this.#observed, { api, broker, now }, this.#signal);
      const { hasChanged, tell = [], status = {}, conditions: more = [] } = done;
      log.info({ namespace, name, step: step.do, changed: hasChanged }, 'step done');
      const isWritten = await this.#say(status, replaced(conditions, more));
      // What belongs to a status that could not be written is told when it is.
      if (isWritten || Object.keys(status).length === 0) for (const each of tell) this.#tell(each);
      return { requeueAfterMs: hasChanged ? 0 : UNCHANGED_MS };
    } catch (error) {
      if (isConflict(error)) return { requeueAfterMs: CONFLICT_MS };
      if (!this.#signal.aborted) {
        const failed = condition('Degraded', true, 'StepFailed', `${step.do}: ${messageOf(error)}`);
        // The error that is thrown matters more than that this could not be written either.
        await this.#say({}, replaced(conditions, [failed])).catch(() => false);
      }
      throw error;
    }
  }

  /** Asks the proxies about their clients, where there are proxies and it is time to. */
  async #askProxies(): Promise<AboutClients> {
    const { rabbitmq, pods, cluster, now } = this.#observed;
    const { clients: lookup, settings } = this.#surroundings;
    const { namespace, name } = rabbitmq;
    const id = `${namespace}/${name}`;
    if (cluster === undefined || !pods.some((pod) => pod.hasProxy)) {
      this.#asked.delete(id);
      const conditions = cluster === undefined ? [] : [condition('ProxyRemovable', false, 'NoProxy')];
      return { ...NOTHING, status: { clients: null }, conditions };
    }
    const pollMs = settings.clientsIntervalMs;
    const age = now.getTime() - (this.#asked.get(id) ?? 0);
    const isKnown = isObject(valueAt(rabbitmq.object, 'status', 'clients'));
    if (isKnown && age < pollMs) return { ...NOTHING, pollMs: pollMs - age };
    const clients = clientsStatus(await lookup.ask(namespace, name, this.#signal), cluster.replicas);
    this.#asked.set(id, now.getTime());
    const after = rabbitmq.annotations[UPGRADE_ANNOTATION.autoRemoveAfter];
    const { removable, reason, message, removeNow } = judgeRemoval(clients, after, now);
    return {
      status: { clients: { ...clients, top: [...clients.top] } },
      conditions: [condition('ProxyRemovable', removable, reason, message)],
      isRemovalDue: removeNow && rabbitmq.status.proxyRequired,
      pollMs,
    };
  }

  /** Nobody has needed it for as long as the annotation asks for: the same as a person would do. */
  async #removeProxy(): Promise<Outcome> {
    const { namespace, name, uid, annotations: own } = this.#observed.rabbitmq;
    const metadata = { uid, annotations: { [ANNOTATION.clientsReconfigured]: 'true' } };
    await this.#surroundings.api.patch(RABBITMQ, { namespace, name }, { metadata }, {}, this.#signal);
    const note = `no client has needed the proxy for ${own[UPGRADE_ANNOTATION.autoRemoveAfter]}: ${ANNOTATION.clientsReconfigured} is set`;
    this.#tell(telling('ProxyAutoRemoved', note));
    return { requeueAfterMs: 0 };
  }

  /**
   * Writes the status. Somebody else may write things into the RabbitMq that don't concern the reconciler, faster than a step
   * takes: those are no reason to take the step again, and again.
   * @returns false when what the step went by has changed
   */
  async #say(status: JsonObject, conditions: readonly ConditionNow[]): Promise<boolean> {
    const { api } = this.#surroundings;
    let observed = this.#observed;
    for (let tries = 0; ; tries++) {
      if (await writeStatus(api, observed, status, conditions, this.#signal)) return true;
      const rabbitmq = tries < WRITES ? await readAgain(api, observed.rabbitmq, this.#signal) : undefined;
      if (rabbitmq === undefined) return false;
      observed = { ...observed, rabbitmq };
    }
  }

  #tell(event: Telling): void {
    this.#surroundings.tell(this.#observed.rabbitmq.object, event);
  }
}

interface AboutClients {
  readonly status: JsonObject;
  readonly conditions: readonly ConditionNow[];
  readonly isRemovalDue: boolean;
  /** When to ask again; Infinity where nobody is to be asked. */
  readonly pollMs: number;
}

const NOTHING: AboutClients = { status: {}, conditions: [], isRemovalDue: false, pollMs: Infinity };

/** Conditions with others in place of those of the same type. */
function replaced(
  conditions: readonly ConditionNow[],
  others: readonly ConditionNow[],
): readonly ConditionNow[] {
  const types = new Set(others.map(({ type }) => type));
  return [...conditions.filter(({ type }) => !types.has(type)), ...others];
}
