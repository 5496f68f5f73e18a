import type { PauseDocument } from './admin/documents.ts';
import type { Session } from './session.ts';

/** Virtual hosts that are paused at a time. */
const PAUSES_MAX = 100;

/** Virtual hosts whose clients are not read from, each until a time: a pause that somebody forgets ends by itself. */
export class Pauses {
  readonly #sessions: Iterable<Session>;
  /** When they end, in milliseconds since 1970. */
  readonly #until = new Map<string, number>();

  /** @param sessions all that there are, at any time */
  constructor(sessions: Iterable<Session>) {
    this.#sessions = sessions;
  }

  has(virtualHost: string): boolean {
    return this.#until.has(virtualHost);
  }

  /** Holds the clients of a virtual host, or goes on holding them. @returns undefined: too many are paused already */
  pause(virtualHost: string, milliseconds: number): PauseDocument | undefined {
    if (!this.has(virtualHost) && this.#until.size >= PAUSES_MAX) return undefined;
    this.#until.set(virtualHost, Date.now() + milliseconds);
    for (const { brakes, conversation } of this.#of(virtualHost)) brakes.pause(conversation!);
    return this.#document(virtualHost);
  }

  /** Lets the clients go on. @returns how many connections do, undefined: it isn't paused */
  resume(virtualHost: string): number | undefined {
    if (!this.#until.delete(virtualHost)) return undefined;
    const sessions = this.#of(virtualHost);
    for (const { brakes } of sessions) brakes.resume();
    return sessions.length;
  }

  /** Connections of clients that the broker has let in there. */
  #of(virtualHost: string): Session[] {
    return [...this.#sessions].filter(
      ({ state, conversation }) => state === 'open' && conversation?.virtualHost === virtualHost,
    );
  }

  /** Ends the pauses that are over. @returns the virtual hosts that go on */
  sweep(): string[] {
    const now = Date.now();
    const over = [...this.#until].filter(([, until]) => until <= now).map(([virtualHost]) => virtualHost);
    for (const virtualHost of over) this.resume(virtualHost);
    return over;
  }

  #document(vhost: string): PauseDocument {
    const until = new Date(this.#until.get(vhost)!).toISOString();
    return { vhost, until, connections: this.#of(vhost).length };
  }

  documents(): PauseDocument[] {
    return [...this.#until.keys()].map((virtualHost) => this.#document(virtualHost));
  }
}
