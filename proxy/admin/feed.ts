import type { ServerResponse } from 'node:http';
import type { Logger } from '../../common/log.ts';

/** How often listeners are told, in milliseconds. */
const INTERVAL = 1000;

/** Listeners at a time: each costs a document a second, and one of the admin port's few connections. */
const LISTENERS_MAX = 8;

/** Turns that a listener may be behind before it is given up. */
const PATIENCE = 30;

interface Listener {
  readonly response: ServerResponse;
  readonly document: () => object;
  behind: number;
}

/** Server-sent events for a few: the state as it is, again and again. Nothing is kept for who is slow. */
export class Feed {
  readonly #listeners = new Set<Listener>();
  readonly #turn: () => void;
  readonly #log: Logger;
  #timer: NodeJS.Timeout | undefined;

  /** @param turn called before the listeners of one turn are told */
  constructor(turn: () => void, log: Logger) {
    this.#turn = turn;
    this.#log = log;
  }

  get isFull(): boolean {
    return this.#listeners.size >= LISTENERS_MAX;
  }

  get size(): number {
    return this.#listeners.size;
  }

  /** Tells a listener until it goes. @param document what it is told, as an object for JSON */
  add(response: ServerResponse, document: () => object): void {
    const listener: Listener = { response, document, behind: 0 };
    this.#listeners.add(listener);
    response.once('close', () => this.#left(listener));
    this.#say(listener);
    this.#timer ??= setInterval(() => this.#tell(), INTERVAL).unref();
  }

  #left(listener: Listener): void {
    this.#listeners.delete(listener);
    if (this.#listeners.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** What can't be said ends the listener, and nothing else. */
  #say({ response, document }: Listener): void {
    try {
      response.write(`event: state\ndata: ${JSON.stringify(document())}\n\n`);
    } catch (error) {
      this.#log.error({ err: error }, '/events could not be answered');
      response.destroy();
    }
  }

  #tell(): void {
    this.#turn();
    for (const listener of this.#listeners) {
      if (!listener.response.writableNeedDrain) {
        listener.behind = 0;
        this.#say(listener);
      } else if (++listener.behind > PATIENCE) listener.response.destroy();
    }
  }

  /** Ends all. */
  close(): void {
    for (const { response } of this.#listeners) response.end();
  }
}
