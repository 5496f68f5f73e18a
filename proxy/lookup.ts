import { METHOD } from '../amqp/constants.ts';
import { encodeMethod, readClose, readQueueDeclareOk } from '../amqp/method.ts';
import type { Answer } from './rules/rule.ts';

const TAKEN: Answer = { messages: 0, consumers: 0 };
const UNANSWERED: Answer = { ...TAKEN, unanswered: true };

const NO_ARGUMENTS = new Uint8Array(0);
const EMPTY_SHORTSTR = Uint8Array.of(0);

/**
 * Milliseconds that a question may take. Brokers answer in one or two, but let those about a queue on a lost node hang
 * for 70 seconds (measured on 4.0 and 4.3).
 */
const TIMEOUT = 2000;

/** A method on the proxy's channel that the broker answers. */
export interface Question {
  /** It must be on the lookup's channel and want an answer. */
  readonly frame: Uint8Array;
  /** Milliseconds that it may take, where that isn't {@link TIMEOUT}. */
  readonly timeout?: number;
  /** Told the answer, once; a question that it returns is asked before those that wait. */
  answer(answer: Answer): Question | undefined;
}

/**
 * A channel of the proxy's own on the client's connection, to ask before the client's own method is sent: a refused
 * declare costs the channel that it came on. Opened when first needed, and again after each refusal. Questions are asked
 * one after the other, so that what one finds still holds for the question that it leads to, as far as this client goes.
 * While the broker leaves one unanswered, its channel is stuck there, and all others are unanswered, too.
 */
export class Lookup {
  /** One more than the client may use. */
  readonly channel: number;
  readonly #send: (frame: Uint8Array) => void;
  #open = false;
  #asked: Question | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** The broker owes the answer to a question that nobody waits for any more. */
  #stuck = false;
  readonly #waiting: Question[] = [];
  #idle: (() => void)[] = [];

  /** @param send passes a frame on to the broker, behind all that was passed on before */
  constructor(channel: number, send: (frame: Uint8Array) => void) {
    this.channel = channel;
    this.#send = send;
  }

  /** Whether no question is under way. */
  get idle(): boolean {
    return this.#asked === undefined;
  }

  /** Calls back once when no question is under way: now, or behind the last answer. */
  whenIdle(done: () => void): void {
    if (this.idle) done();
    else this.#idle.push(done);
  }

  ask(question: Question): void {
    if (this.idle) this.#begin(question);
    else this.#waiting.push(question);
  }

  #begin(question: Question): void {
    this.#asked = question;
    if (this.#stuck) {
      this.#answered(UNANSWERED);
      return;
    }
    this.#timer = setTimeout(() => {
      this.#stuck = true;
      this.#answered(UNANSWERED);
    }, question.timeout ?? TIMEOUT);
    if (this.#open) this.#send(question.frame);
    else this.#send(encodeMethod(this.channel, METHOD.channelOpen, EMPTY_SHORTSTR));
  }

  /** Takes a frame that the broker sent on `channel`. @throws WireError 502 when it is malformed */
  take(frame: Uint8Array, method: number): void {
    if (method === METHOD.channelOpenOk) {
      this.#open = true;
      if (this.#stuck) this.#stuck = false;
      else if (this.#asked !== undefined) this.#send(this.#asked.frame);
      return;
    }
    let answer = TAKEN;
    if (method === METHOD.queueDeclareOk) answer = readQueueDeclareOk(frame);
    else if (method === METHOD.channelClose) {
      answer = { ...TAKEN, refusal: readClose(frame) };
      this.#open = false;
      this.#send(encodeMethod(this.channel, METHOD.channelCloseOk, NO_ARGUMENTS));
    }
    if (this.#stuck) this.#stuck = false;
    else this.#answered(answer);
  }

  #answered(answer: Answer): void {
    const asked = this.#asked;
    if (asked === undefined) return;
    clearTimeout(this.#timer);
    const next = asked.answer(answer) ?? this.#waiting.shift();
    this.#asked = undefined;
    if (next !== undefined) this.#begin(next);
    else for (const done of this.#idle.splice(0)) done();
  }

  /** The connection has ended: nothing is answered any more. */
  end(): void {
    clearTimeout(this.#timer);
  }
}
