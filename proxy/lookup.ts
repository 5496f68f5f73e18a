import { METHOD } from '../amqp/constants.ts';
import { encodeMethod, readClose, readQueueDeclareOk } from '../amqp/method.ts';
import type { Answer } from './rules/rule.ts';

const TAKEN: Answer = { messages: 0, consumers: 0 };

const NO_ARGUMENTS = new Uint8Array(0);
const EMPTY_SHORTSTR = Uint8Array.of(0);

/**
 * A channel of the proxy's own on the client's connection, to ask before the client's own method is sent: a refused
 * declare costs the channel that it came on. Opened when first needed, and again after each refusal.
 */
export class Lookup {
  /** One more than the client may use. */
  readonly channel: number;
  readonly #send: (frame: Uint8Array) => void;
  #open = false;
  #question: { readonly frame: Uint8Array; readonly answer: (answer: Answer) => void } | undefined;

  /** @param send passes a frame on to the broker, behind all that was passed on before */
  constructor(channel: number, send: (frame: Uint8Array) => void) {
    this.channel = channel;
    this.#send = send;
  }

  /** Sends a question, which must be on `channel` and want an answer. One question at a time. */
  ask(frame: Uint8Array, answer: (answer: Answer) => void): void {
    this.#question = { frame, answer };
    if (this.#open) this.#send(frame);
    else this.#send(encodeMethod(this.channel, METHOD.channelOpen, EMPTY_SHORTSTR));
  }

  /** Takes a frame that the broker sent on `channel`. @throws WireError 502 when it is malformed */
  take(frame: Uint8Array, method: number): void {
    if (method === METHOD.channelOpenOk) {
      this.#open = true;
      if (this.#question !== undefined) this.#send(this.#question.frame);
      return;
    }
    let answer = TAKEN;
    if (method === METHOD.queueDeclareOk) answer = readQueueDeclareOk(frame);
    else if (method === METHOD.channelClose) {
      answer = { ...TAKEN, refusal: readClose(frame) };
      this.#open = false;
      this.#send(encodeMethod(this.channel, METHOD.channelCloseOk, NO_ARGUMENTS));
    }
    const question = this.#question;
    this.#question = undefined;
    question?.answer(answer);
  }
}
