// Publishes what becomes of upgrades to a topic exchange: for people's tools, and never in the way of an upgrade.
import { setTimeout as delay } from 'node:timers/promises';
import { messageOf } from '../common/errors.ts';
import { textAt, valueAt } from '../common/kube/json.ts';
import type { Logger } from '../common/log.ts';
import type { MessagingConfig } from '../messaging/config.ts';
import { Publisher } from '../messaging/publisher/publisher.ts';
import { UPGRADE_EXCHANGE, type UpgradeEvent } from '../messaging/upgrade-event.ts';
import type { ReconcilerStats } from './metrics.ts';
import type { ObservedRabbitMq } from './types.ts';

export interface UpgradeEvents {
  /** Told what a RabbitMq is like at each look, and undefined when it is gone. Never throws, and waits for nobody. */
  seen(
    key: { readonly namespace: string; readonly name: string },
    rabbitmq: ObservedRabbitMq | undefined,
  ): void;
  /** Lets what waits be confirmed for a short while. */
  close(): Promise<void>;
}

export interface UpgradeEventsSettings {
  /** Its connection and publisher are used. */
  readonly config: MessagingConfig;
  readonly log: Logger;
  readonly stats: ReconcilerStats;
  /** How long an event waits for its broker, and when one is tried again that it did not take, in milliseconds. */
  readonly waitMs?: number;
  readonly retryMs?: number;
}

const WAIT_MS = 10 * 60_000;
const RETRY_MS = 60_000;
/** Events that wait: each RabbitMq that is upgraded has a handful. */
const WAITING_MAX = 1000;
const WAITING_OCTETS_MAX = 2 ** 20;
const CLOSE_MS = 1000;
const CLOSE_MAX_MS = 5000;

/**
 * Publishes the phase that each RabbitMq is in when it has changed, and once after a start: so each change is published at least
 * once, unless it is over before its broker can be reached. A connection is made when the first RabbitMq is seen.
 */
export function startUpgradeEvents(settings: UpgradeEventsSettings): UpgradeEvents {
  const { log, stats, waitMs = WAIT_MS, retryMs = RETRY_MS } = settings;
  /** What was published last, by RabbitMq, and when it failed (performance.now()). */
  const published = new Map<string, { readonly messageId: string; failedAt?: number }>();
  let publisher: Publisher | undefined;

  const publish = async (id: string, event: UpgradeEvent): Promise<void> => {
    const { namespace, name, phase } = event;
    const messageId = messageIdOf(event);
    const entry: { readonly messageId: string; failedAt?: number } = { messageId };
    published.set(id, entry);
    try {
      publisher ??= connect(settings);
      await publisher.publish({
        exchange: UPGRADE_EXCHANGE,
        routingKey: `${namespace}.${name}.${phase}`,
        content: event,
        messageId,
        type: UPGRADE_EXCHANGE,
        // Nobody has to listen.
        mandatory: false,
        timeoutMs: waitMs,
      });
      stats.upgradeEvents.add({ result: 'published' });
    } catch (error) {
      stats.upgradeEvents.add({ result: 'failed' });
      entry.failedAt = performance.now();
      log.warn({ namespace, name, phase, why: messageOf(error) }, 'an upgrade event is not published');
    }
  };

  /** A look later than that tries again, unless the RabbitMq is further by then. */
  const isDone = (id: string, event: UpgradeEvent): boolean => {
    const { messageId, failedAt = Infinity } = published.get(id) ?? {};
    return messageId === messageIdOf(event) && performance.now() - failedAt < retryMs;
  };

  return {
    seen({ namespace, name }, rabbitmq) {
      const id = `${namespace}/${name}`;
      const event = rabbitmq && upgradeEventOf(rabbitmq);
      if (event === undefined) published.delete(id);
      else if (!isDone(id, event)) void publish(id, event);
    },
    async close() {
      // A connection that is being made ends only with its timeout.
      const late = delay(CLOSE_MAX_MS, undefined, { ref: false });
      await Promise.race([publisher?.close({ timeoutMs: CLOSE_MS }), late]);
    },
  };
}

/** The same for the same change, whoever publishes it: consumers tell by it what they have had. */
function messageIdOf({ uid, sequence, phase }: UpgradeEvent): string {
  return `${uid}.${sequence}.${phase}`;
}

/** How far a RabbitMq's latest upgrade is; undefined before the first. */
export function upgradeEventOf({
  namespace,
  name,
  uid,
  object,
  status,
}: ObservedRabbitMq): UpgradeEvent | undefined {
  const { upgrade, upgradePhase, upgradeSequence, currentVersion } = status;
  const of = { namespace, name, uid };
  if (upgradePhase !== '') {
    // Another controller's phases have no record.
    if (upgrade === undefined) return undefined;
    const { sequence, from, to, reason, phaseStartedAt: since } = upgrade;
    return { ...of, sequence, phase: upgradePhase, from, to, reason, since };
  }
  if (upgradeSequence === 0) return undefined;
  const last = valueAt(object, 'status', 'lastUpgrade');
  const sequence = upgradeSequence;
  if (valueAt(last, 'sequence') !== sequence)
    return { ...of, sequence, phase: 'CalledOff', from: currentVersion, to: null, reason: null, since: null };
  const at = (field: string): string | null => textAt(last, field) ?? null;
  return {
    ...of,
    sequence,
    phase: 'Complete',
    from: at('from') ?? '',
    to: at('to'),
    reason: at('reason'),
    since: at('finishedAt'),
  };
}

function connect({ config, log, stats }: UpgradeEventsSettings): Publisher {
  let isTold = false;
  const publisher = new Publisher(
    // Without end: the reconciler runs longer than any outage.
    { ...config, connection: { ...config.connection, maxReconnectAttempts: 0 } },
    {
      name: 'quorumbridge upgrade events',
      maxWaiting: WAITING_MAX,
      maxWaitingOctets: WAITING_OCTETS_MAX,
      onOpen: async (model) => {
        const channel = await model.createChannel();
        // The same refusal rejects the call.
        channel.on('error', () => {});
        await channel.assertExchange(UPGRADE_EXCHANGE, 'topic', { durable: true });
        await channel.close();
        if (isTold) log.info('the broker for upgrade events is reached again');
        isTold = false;
      },
      onProblem: (why) => {
        if (!isTold) log.warn({ why }, 'upgrade events wait for their broker');
        isTold = true;
      },
    },
  );
  stats.eventsBroker = publisher;
  return publisher;
}
