import { formatDuration } from '../config/duration.ts';

/**
 * The queue in which messages for `queue` wait that long. The delay is part of the name: a changed delay makes another queue,
 * where a changed argument of the same queue would be refused (406).
 */
export function retryQueueName(queue: string, delayMs: number): string {
  return `${queue}.retry.${formatDuration(delayMs)}`;
}
