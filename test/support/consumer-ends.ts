import { expect } from 'vitest';
import { queueDeclare } from './amqp-frames.ts';
import { basicCancel, channelClose, channelCloseOk } from './amqp-methods.ts';
import type { RawClient } from './raw-client.ts';

/** The ways in which a consumer with the tag `c` on channel 1 goes. */
export const CONSUMER_ENDS: readonly [how: string, end: (consumer: RawClient) => Promise<void>][] = [
  [
    'is cancelled',
    async (consumer) => {
      expect(await consumer.ask(basicCancel(1, 'c'))).toBe('basic.cancel-ok c');
    },
  ],
  [
    'is cancelled without waiting',
    async (consumer) => {
      consumer.send(basicCancel(1, 'c', { noWait: true }));
      await Promise.resolve();
    },
  ],
  [
    'goes with its channel',
    async (consumer) => {
      expect(await consumer.ask(channelClose(1))).toBe('channel.close-ok');
    },
  ],
  [
    'goes with a channel that the broker closes',
    async (consumer) => {
      expect(await consumer.ask(queueDeclare({ name: 'there is none', flags: 1 }))).toMatch(
        /^channel\.close 404/,
      );
      consumer.send(channelCloseOk(1));
    },
  ],
  ['goes with its connection', (consumer) => consumer.close()],
  [
    'is lost by a TCP reset',
    async (consumer) => {
      consumer.reset();
      await Promise.resolve();
    },
  ],
];
