import type { Encoded, OutgoingMessage } from './message.ts';
import { PublishError, type PublishFailure } from './errors.ts';

/** A publish that was confirmed. */
export interface Confirmation {
  readonly messageId: string;
  /** False with `confirm: false`: it was written to the connection, and nobody says what became of it. */
  readonly confirmed: boolean;
}

/** A publish on its way: it is settled exactly once. */
export class Entry {
  readonly exchange: string;
  readonly routingKey: string;
  readonly encoded: Encoded;
  /** Milliseconds of performance.now(). */
  readonly began: number;
  readonly deadline: number;
  /** How many answers of the broker had come when it went there last; undefined: it never did. */
  answersBefore: number | undefined;
  /** What the broker said when it gave it back: no queue got it. */
  returned: string | undefined;
  #settled = false;
  readonly #resolve: (confirmation: Confirmation) => void;
  readonly #reject: (error: PublishError) => void;

  constructor(
    { exchange, routingKey }: OutgoingMessage,
    encoded: Encoded,
    began: number,
    deadline: number,
    resolve: (confirmation: Confirmation) => void,
    reject: (error: PublishError) => void,
  ) {
    this.exchange = exchange;
    this.routingKey = routingKey;
    this.encoded = encoded;
    this.began = began;
    this.deadline = deadline;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  /** It went to the broker at least once. */
  get sent(): boolean {
    return this.answersBefore !== undefined;
  }

  get messageId(): string {
    return this.encoded.messageId;
  }

  get isSettled(): boolean {
    return this.#settled;
  }

  /** @returns false when it was settled before */
  confirm(confirmed: boolean): boolean {
    if (this.#settled) return false;
    this.#settled = true;
    this.#resolve({ messageId: this.messageId, confirmed });
    return true;
  }

  /** @returns false when it was settled before */
  fail(failure: PublishFailure, why: string): boolean {
    if (this.#settled) return false;
    this.#settled = true;
    const where = `exchange ${JSON.stringify(this.exchange)}, routing key ${JSON.stringify(this.routingKey)}`;
    const { messageId } = this;
    this.#reject(new PublishError(failure, messageId, this.sent, `message ${messageId} (${where}): ${why}`));
    return true;
  }
}
