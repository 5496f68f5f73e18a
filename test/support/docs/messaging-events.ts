// The events of the messaging kit, as docs/messaging.md has them. The types hold every event and every field of it.
import { type Events, events } from '../../../messaging/observe/events.ts';
import { code, table } from './table.ts';

type Texts = {
  readonly [Name in keyof Events]: {
    readonly when: string;
    readonly fields: Readonly<Record<keyof Events[Name], string>>;
  };
};

/** What needs no words. */
const [client, messageId, exchange, routingKey, queue] = ['', '', '', '', ''];
const attempt = 'from 1';

export const EVENT_TEXTS: Texts = {
  publish: {
    when: 'A publish was taken, and waits for its turn.',
    fields: { client, messageId, exchange, routingKey, octets: 'of the content' },
  },
  settle: {
    when: 'A publish was settled, or refused at once.',
    fields: {
      client,
      messageId,
      exchange,
      routingKey,
      outcome: 'as in `rabbitmq_messages_published_total`',
      seconds: 'since the publish',
    },
  },
  deliver: {
    when: 'A delivery was taken up, before its content is looked at.',
    fields: { client, queue, messageId, attempt, redelivered: 'true or false' },
  },
  outcome: {
    when: 'The broker was told what becomes of a message.',
    fields: {
      client,
      queue,
      messageId,
      attempt,
      outcome: '`acked`, `requeued`, `rejected`, `retried`',
      seconds: 'since it was taken up',
    },
  },
  connection: {
    when: 'The connection has come into another state.',
    fields: {
      client,
      state: 'as in `rabbitmq_connection_state`',
      reason: 'why it was lost or given up, or undefined',
    },
  },
};

/** The table of events. */
export function eventTables(): [name: string, table: string][] {
  const rows = Object.keys(events).map((name) => {
    const { when, fields } = EVENT_TEXTS[name as keyof Events];
    const shown = Object.entries(fields).map(([field, text]) =>
      text === '' ? code(field) : `${code(field)} (${text})`,
    );
    return [code(`quorumbridge.messaging.${name}`), shown.join(', '), when];
  });
  return [['events of messaging', table(['channel', 'fields', 'when'], rows)]];
}
