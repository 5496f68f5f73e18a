import type { Logger } from '../common/log.ts';
import type { Logins } from './access/login.ts';
import type { Backend } from './backend.ts';
import type { Mode } from './ledger-document.ts';
import type { Admission } from './limits/admission.ts';
import type { Connect } from './link.ts';
import type { Policies } from './policy/policy.ts';
import type { Queues } from './queues.ts';
import type { ClientRecords } from './record.ts';
import type { Session } from './session.ts';
import type { Stats } from './stats.ts';
import type { StrangerLines } from './stranger-lines.ts';
import type { AuditLog } from './telemetry/audit.ts';

/** How long a session's stages may take. */
export interface SessionLimits {
  /** Milliseconds for each of the TLS handshake, the protocol header and, once there is a backend, the login. */
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
  readonly admission: Admission;
  readonly logins: Logins;
  readonly queues: Queues;
  readonly limits: SessionLimits;
  readonly backend: Backend;
  /** Why a client can't be connected to the broker now; `waits`: it may be later, and is asked again. undefined: it can. */
  barrier(): { readonly text: string; readonly waits: boolean } | undefined;
  /** Makes the way to the broker of a client that has said what it speaks. */
  readonly connect: Connect;
  readonly stats: Stats;
  readonly log: Logger;
  readonly audit: AuditLog | undefined;
  /** Whether the text is told for the first time: what many clients meet is one line of the log and not thousands. */
  isNews(text: string): boolean;
  /** Lines about clients that were not let in. */
  readonly strangers: StrangerLines;
  /** Whether the clients of a virtual host are held back. */
  isPaused(virtualHost: string): boolean;
  /** Called when the broker has answered connection.open-ok. */
  opened(session: Session): void;
  /** Called once, when both sockets are closed. */
  ended(session: Session): void;
}
