import { REPLY } from '../../amqp/constants.ts';
import type { Logger } from '../../common/log.ts';
import type { Roll } from '../roster.ts';
import type { InFlight } from './in-flight.ts';
import { DrainSchedule } from './schedule.ts';

/** How often clients are looked at, in milliseconds. */
const TICK = 50;

/** The part of the period over which clients are told to go; the rest is for the last ones to finish. */
const SPREAD = 0.8;

/** Milliseconds without another publish, after which a client that goes on sending is not publishing any more. */
const PUBLISHED = 2000;

/** How long clients have to take their connection.close at the end, in milliseconds. */
const LAST_CALL = 3000;

/** Progress is logged so many times, and not more often than every second. */
const LINES = 10;

/** A client as a drain sees it. */
export interface Drained {
  readonly account: { readonly octetsFromClient: number };
  /** What it says to the broker, where that is AMQP 0-9-1. */
  readonly conversation:
    | {
        readonly inFlight: InFlight;
        readonly atBoundary: boolean;
        /** Its next publish is held: it waits for those before to be confirmed, and is closed then. */
        readonly isStayed: boolean;
        /** Holds it at its next publish. */
        stay(): void;
      }
    | undefined;
  fail(code: 'DRAIN', replyCode: number, text: string): void;
}

interface Look {
  octets: number;
  published: number;
  /** When it was last seen to send anything. */
  activeAt: number;
  publishedAt: number;
  /** The last look found that it has sent nothing. */
  isSilent: boolean;
  stage: 'waiting' | 'finishing' | 'told';
}

export interface DrainSettings {
  /** Grows by those whose connection was under way, and shrinks as they end. */
  readonly sessions: Roll<Drained>;
  /** Milliseconds until all that are left are closed. */
  readonly timeout: number;
  readonly log: Logger;
}

/**
 * Takes leave of all clients: connection.close 320, spread over the period, to those first that have been silent for
 * longest. One that publishes is stopped at its next publish and closed when the broker has confirmed those before.
 */
export class Drain {
  readonly #sessions: Roll<Drained>;
  readonly #timeout: number;
  readonly #log: Logger;
  readonly #began = performance.now();
  readonly #schedule: DrainSchedule;
  readonly #looks = new Map<Drained, Look>();
  readonly #lineInterval: number;
  #lineAt: number;
  #told = 0;
  #forced = 0;

  constructor({ sessions, timeout, log }: DrainSettings) {
    this.#sessions = sessions;
    this.#timeout = timeout;
    this.#log = log;
    this.#schedule = new DrainSchedule(this.#began, timeout * SPREAD);
    this.#lineInterval = Math.max(1000, timeout / LINES);
    this.#lineAt = this.#began + this.#lineInterval;
  }

  /** Resolves when no client is left, or those that are left don't take their leave. */
  async run(): Promise<void> {
    const last = this.#began + this.#timeout;
    await this.#until(last, (now) => this.#look(now));
    if (this.#sessions.size > 0) {
      this.#force();
      await this.#until(performance.now() + LAST_CALL, () => {});
    }
    const seconds = Math.round(performance.now() - this.#began) / 1000;
    this.#log.info({ seconds, told: this.#told, forced: this.#forced, left: this.#sessions.size }, 'drained');
  }

  /** Looks again and again until no session is left, or the time has come. */
  async #until(time: number, look: (now: number) => void): Promise<void> {
    for (let now = performance.now(); this.#sessions.size > 0 && now < time; now = performance.now()) {
      look(now);
      await new Promise((resolve) => setTimeout(resolve, Math.min(TICK, time - now)));
    }
  }

  #look(now: number): void {
    const waiting: [Drained, Look][] = [];
    for (const session of this.#sessions) {
      const look = this.#update(session, now);
      if (look.stage === 'waiting') waiting.push([session, look]);
    }
    for (const [session, look] of this.#next(waiting, this.#schedule.due(now, waiting.length))) {
      look.stage = 'finishing';
      session.conversation?.stay();
    }
    const seconds = this.#timeout / 1000;
    let finishing = 0;
    for (const session of this.#sessions) {
      const look = this.#looks.get(session)!;
      if (look.stage !== 'finishing') continue;
      if (!isDone(session, look, now)) finishing++;
      else this.#tell(session, look, `the proxy is shutting down within ${seconds} s: connect again`);
    }
    if (now < this.#lineAt) return;
    this.#lineAt = now + this.#lineInterval;
    const left = Math.max(0, Math.round((this.#began + this.#timeout - now) / 100) / 10);
    const line = { connections: this.#sessions.size, told: this.#told, finishing, secondsLeft: left };
    this.#log.info(line, 'draining');
  }

  #update(session: Drained, now: number): Look {
    const octets = session.account.octetsFromClient;
    const published = session.conversation?.inFlight.published ?? 0;
    const look = this.#looks.get(session);
    if (look === undefined) {
      const publishedAt = published > 0 ? now : -Infinity;
      const first: Look = {
        octets,
        published,
        activeAt: -Infinity,
        publishedAt,
        isSilent: false,
        stage: 'waiting',
      };
      this.#looks.set(session, first);
      return first;
    }
    look.isSilent = octets === look.octets;
    if (!look.isSilent) look.activeAt = now;
    if (published !== look.published) look.publishedAt = now;
    look.octets = octets;
    look.published = published;
    return look;
  }

  /** Whose turn it is: those first that have nothing to finish, and of these the ones that have been silent for longest. */
  #next(waiting: [Drained, Look][], count: number): [Drained, Look][] {
    if (count === 0) return [];
    const unconfirmed = ([session]: [Drained, Look]): number =>
      Math.min(1, session.conversation?.inFlight.unconfirmed ?? 0);
    const order = waiting.map((one) => ({ one, busy: unconfirmed(one), activeAt: one[1].activeAt }));
    order.sort((a, b) => a.busy - b.busy || (a.activeAt === b.activeAt ? 0 : a.activeAt - b.activeAt));
    return order.slice(0, count).map(({ one }) => one);
  }

  #tell(session: Drained, look: Look, text: string): void {
    look.stage = 'told';
    this.#told++;
    session.fail('DRAIN', REPLY.connectionForced, text);
  }

  #force(): void {
    const text = `the proxy is shutting down, and ${this.#timeout / 1000} s to finish are over`;
    for (const session of this.#sessions) {
      const look = this.#update(session, performance.now());
      if (look.stage === 'told') continue;
      this.#forced++;
      this.#tell(session, look, text);
    }
  }
}

/** Whether nothing of the client's is under way. */
function isDone({ conversation }: Drained, look: Look, now: number): boolean {
  if (conversation === undefined) return look.isSilent;
  if (conversation.inFlight.unconfirmed > 0 || !conversation.atBoundary) return false;
  return conversation.isStayed || look.isSilent || now - look.publishedAt > PUBLISHED;
}
