// What the kit tells while it runs, to whoever listens by node:diagnostics_channel: no contents, no headers, no secrets.
import { channel } from 'node:diagnostics_channel';
import type { ConnectorState } from '../connector.ts';
import type { Outcome } from '../consumer/delivery.ts';
import type { PublishFailure } from '../publisher/errors.ts';

/** Messages of the channels `quorumbridge.messaging.NAME`. */
export interface Events {
  readonly publish: {
    readonly client: string;
    readonly messageId: string;
    readonly exchange: string;
    readonly routingKey: string;
    readonly octets: number;
  };
  readonly settle: {
    readonly client: string;
    readonly messageId: string;
    readonly exchange: string;
    readonly routingKey: string;
    readonly outcome: 'confirmed' | 'sent' | PublishFailure;
    readonly seconds: number;
  };
  readonly deliver: {
    readonly client: string;
    readonly queue: string;
    readonly messageId: string | undefined;
    readonly attempt: number;
    readonly redelivered: boolean;
  };
  readonly outcome: {
    readonly client: string;
    readonly queue: string;
    readonly messageId: string | undefined;
    readonly attempt: number;
    readonly outcome: Outcome;
    readonly seconds: number;
  };
  readonly connection: {
    readonly client: string;
    readonly state: ConnectorState;
    readonly reason: string | undefined;
  };
}

interface EventChannel<Message> {
  /** False: a message need not be made. */
  readonly hasSubscribers: boolean;
  readonly publish: (message: Message) => void;
}

/** The channels, which are told only what somebody listens to. */
export const events: { readonly [Name in keyof Events]: EventChannel<Events[Name]> } = {
  publish: channel('quorumbridge.messaging.publish'),
  settle: channel('quorumbridge.messaging.settle'),
  deliver: channel('quorumbridge.messaging.deliver'),
  outcome: channel('quorumbridge.messaging.outcome'),
  connection: channel('quorumbridge.messaging.connection'),
};
