import type { Logger } from '../common/log.ts';
import type { Backend } from './backend.ts';
import type { Mode } from './ledger-document.ts';
import type { Connect } from './link.ts';
import type { Policies } from './policy/policy.ts';
import type { Queues } from './queues.ts';
import type { ClientRecords } from './record.ts';
import type { Session } from './session.ts';
import type { Stats } from './stats.ts';

/** How long a session's stages may take. */
export interface SessionLimits {
  /** Milliseconds from the accepted connection to connection.open-ok, the backend's connect not counted. */
  readonly handshakeTimeout: number;
  /** Milliseconds for the connection to the backend, its TLS included. */
  readonly connectTimeout: number;
  /** Milliseconds without an octet in either direction; 0 is for ever. */
  readonly idleTimeout: number;
}

/** What all sessions of a proxy share. */
export interface SessionContext {
  /** `transparent` and `pool` rewrite what the broker would refuse; `observe` changes nothing and tells the ledger alone. */
  readonly mode: Mode;
  readonly policies: Policies;
  readonly clients: ClientRecords;
  readonly queues: Queues;
  readonly limits: SessionLimits;
  readonly backend: Backend;
  /** Makes the way to the broker of a client that has said what it speaks. */
  readonly connect: Connect;
  readonly stats: Stats;
  readonly log: Logger;
  /** Whether the text is told for the first time: what many clients meet is one line of the log and not thousands. */
  isNews(text: string): boolean;
  /** Called when the broker has answered connection.open-ok. */
  opened(): void;
  /** Called once, when both sockets are closed. */
  ended(session: Session): void;
}
