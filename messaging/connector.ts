import { setTimeout as sleep } from 'node:timers/promises';
import type { ChannelModel } from 'amqplib';
import { messageOf } from '../common/errors.ts';
import type { ConnectionConfig } from './config/types.ts';
import {
  closeConnection,
  delayBefore,
  describeBroker,
  destroyConnection,
  openConnection,
  reconnectPolicy,
} from './connection.ts';
import { BrokerFailure } from './errors.ts';
import { events as told } from './observe/events.ts';

/** `connecting` a connection is being made, or waited for · `open` · `failed` all attempts were in vain · `closed` it was told to. */
export type ConnectorState = 'connecting' | 'open' | 'failed' | 'closed';

export interface ConnectorEvents {
  /** There is a connection. What it rejects with counts as a failed attempt: the connection is closed, and made anew. */
  readonly open: (model: ChannelModel) => Promise<void>;
  /** The connection of the last `open` is gone. @param replyCode of the broker's connection.close; undefined: it said none */
  readonly lost: (reason: string, replyCode: number | undefined) => void;
  /** No further attempt is made. */
  readonly failed: (error: BrokerFailure) => void;
  /** An attempt has failed. @param delayMs until the next one; undefined: there is none */
  readonly retrying?: (error: Error, attempt: number, delayMs: number | undefined) => void;
}

/** A connection that has lasted so long, in milliseconds, is no failure when it ends. */
const LASTING_MS = 5000;

export interface ConnectorSettings {
  readonly connection: ConnectionConfig;
  /** For people that look at the broker's connections. */
  readonly name: string;
  readonly events: ConnectorEvents;
}

/** Keeps one connection to the broker: when it is lost it is made again, later and later, as the configuration says. */
export class Connector {
  readonly #settings: ConnectorSettings;
  readonly #ended = new AbortController();
  #state: ConnectorState = 'connecting';
  #model: ChannelModel | undefined;
  #running: Promise<void> | undefined;

  constructor(settings: ConnectorSettings) {
    this.#settings = settings;
  }

  get state(): ConnectorState {
    return this.#state;
  }

  /** Begins to connect; what comes of it is told by the events. */
  start(): void {
    const { name, connection } = this.#settings;
    if (connection.tls?.skipVerify === true)
      process.emitWarning(
        `${name}: the certificate of ${describeBroker(connection)} is not checked (skip_verify): whoever sits between can read the password and every message`,
        { code: 'QUORUMBRIDGE_SKIP_VERIFY' },
      );
    this.#running ??= this.#run();
  }

  async #run(): Promise<void> {
    const { connection, events } = this.#settings;
    const policy = reconnectPolicy(connection);
    for (let attempt = 1; !this.#ended.signal.aborted; attempt++) {
      const began = performance.now();
      const problem = await this.#attempt();
      if (this.#ended.signal.aborted) return;
      // One that is taken away again and again is made less and less often, too.
      if (problem === undefined && performance.now() - began > LASTING_MS) attempt = 1;
      const delay = delayBefore(attempt, policy, Math.random());
      const error = problem ?? new BrokerFailure(`${describeBroker(connection)}: the connection was lost`);
      events.retrying?.(error, attempt, delay);
      if (delay === undefined) {
        const text = `${error.message}; given up after ${attempt - 1} attempts (max_reconnect_attempts)`;
        this.#become('failed', text);
        events.failed(new BrokerFailure(text));
        return;
      }
      await sleep(delay, undefined, { signal: this.#ended.signal }).catch(() => {});
    }
  }

  #become(state: ConnectorState, reason?: string): void {
    this.#state = state;
    if (told.connection.hasSubscribers)
      told.connection.publish({ client: this.#settings.name, state, reason });
  }

  /** One connection, from its beginning to its end. @returns why it never came to be open */
  async #attempt(): Promise<Error | undefined> {
    const { connection, name, events } = this.#settings;
    let model: ChannelModel;
    try {
      model = await openConnection(connection, name);
    } catch (error) {
      return error instanceof Error ? error : new BrokerFailure(String(error));
    }
    let reason = 'the broker ended the connection';
    let replyCode: number | undefined;
    model.on('error', (error: Error & { code?: unknown }) => {
      reason = messageOf(error);
      if (typeof error.code === 'number') replyCode = error.code;
    });
    const closed = new Promise<void>((resolve) => {
      model.on('close', () => resolve());
    });
    if (this.#ended.signal.aborted) {
      await closeConnection(model);
      return undefined;
    }
    this.#model = model;
    try {
      await events.open(model);
    } catch (error) {
      this.#model = undefined;
      await closeConnection(model);
      return error instanceof Error ? error : new BrokerFailure(String(error));
    }
    if (this.#state === 'connecting') this.#become('open');
    await closed;
    this.#model = undefined;
    if (this.#state === 'open') this.#become('connecting', reason);
    events.lost(reason, replyCode);
    return undefined;
  }

  /** Ends the connection at once, without a word to a broker that doesn't listen; another one is made. */
  drop(why: string): void {
    if (this.#model !== undefined) destroyConnection(this.#model, why);
  }

  /** Closes the connection, and makes none any more. */
  async close(): Promise<void> {
    if (this.#state === 'connecting' || this.#state === 'open') this.#become('closed');
    this.#ended.abort();
    if (this.#model !== undefined) await closeConnection(this.#model);
    await this.#running;
  }
}
