import type { HoldingQueue, ObservedBroker } from '../types.ts';
import { type ListedQueue, type Management, ManagementFailure } from './management.ts';

/** Messages that are lost when a broker's storage is wiped. */
export interface Inventory {
  /** Queues that hold some, the fullest first and in front of them those whose messages nobody has counted. */
  readonly holding: readonly HoldingQueue[];
  /** In all queues that were counted. */
  readonly messages: number;
}

/** How many queues an observation names. */
const NAMED_MAX = 20;

/**
 * Counts what a wipe loses and a restart does not: persistent messages, ready or unacknowledged, and all in streams.
 * RabbitMQ counts those of exclusive and transient queues as not persistent, since they end with their connection or
 * with the broker; quorum queues have no others. Its figures are up to 5 s old.
 */
export function inventoryOf(queues: readonly ListedQueue[]): Inventory {
  const holding = queues
    .map((queue) => ({ vhost: queue.vhost, name: queue.name, messages: lostOf(queue) }))
    .filter(({ messages }) => messages !== 0)
    .sort((a, b) => (b.messages ?? Infinity) - (a.messages ?? Infinity) || (a.name < b.name ? -1 : 1));
  return { holding, messages: holding.reduce((sum, { messages }) => sum + (messages ?? 0), 0) };
}

/** undefined where the broker doesn't tell: its statistics are off, or the queue is down. */
function lostOf({ type, durable, exclusive, messages, persistent }: ListedQueue): number | undefined {
  if (exclusive || !durable) return 0;
  return type === 'stream' ? messages : persistent;
}

/** What a plan reads of a broker. */
export async function observeBroker(management: Management, signal: AbortSignal): Promise<ObservedBroker> {
  try {
    const { version } = await management.overview(signal);
    const { known, running } = await management.nodes(signal);
    const { holding, messages } = inventoryOf(await management.queues(signal));
    return {
      state: 'known',
      version,
      running,
      nodes: known,
      holding: holding.slice(0, NAMED_MAX),
      messages,
      queues: holding.length,
    };
  } catch (error) {
    if (error instanceof ManagementFailure) return { state: 'unknown', why: error.message };
    throw error;
  }
}
