import type { ClientIdentity } from '../amqp/handshake.ts';
import type { MeaningChange, RewrittenMethod } from './rules/rule.ts';

/** Who a connection's client is, once the broker has let it in. */
export interface ClientWho extends ClientIdentity {
  readonly virtualHost: string;
  /** The peer's IP address, without its port. */
  readonly address: string;
  /** Octets of frame_max that the client asked for; 0 is no limit. */
  readonly frameMax: number;
}

/** What is told of one client's connection, for the ledger. Called on the path of frames: it must be cheap. */
export interface ClientRecord {
  /** A method that a rule looks at, complete and as the client sent it. Never throws. */
  said(method: number, frame: Uint8Array): void;
  /** A frame was edited on its way to the broker. */
  rewritten(method: RewrittenMethod): void;
  /** A rewrite could not keep all of what the client asked for. */
  changed(change: MeaningChange): void;
  /** The connection has ended. */
  ended(): void;
}

/** Where connections are told of. */
export interface ClientRecords {
  /** A client whose connection.open the broker has answered. @param broker the broker's version as it tells it */
  connected(who: ClientWho, broker: string | undefined): ClientRecord;
}
