import { FRAME_BODY, FRAME_HEADER, FRAME_METHOD, METHOD } from './constants.ts';

const NOTHING = 0;
const HEADER = 1;
const BODY = 2;

/**
 * The order of content on each channel of a client (AMQP 0-9-1 section 4.2.6): basic.publish, a header frame, body
 * frames. Body sizes aren't added up: a broker does that, and it takes octets that are otherwise nobody's business.
 */
export class ContentOrder {
  /** What each channel may go on with; grows with the highest channel in use. */
  #expected: Uint8Array = new Uint8Array(16);

  /**
   * Takes the next frame.
   * @returns undefined when it may come now, else what is wrong with it: a matter of reply code 505
   */
  follow(type: number, channel: number, method: number): string | undefined {
    if (channel >= this.#expected.length) this.#grow(channel);
    const expected = this.#expected[channel];
    if (type === FRAME_METHOD) {
      if (expected === HEADER) return `method on channel ${channel} where a content header is due`;
      this.#expected[channel] = method === METHOD.basicPublish ? HEADER : NOTHING;
    } else if (type === FRAME_HEADER) {
      if (expected !== HEADER) return `content header on channel ${channel} without basic.publish`;
      this.#expected[channel] = BODY;
    } else if (type === FRAME_BODY && expected !== BODY) {
      return `content body on channel ${channel} without a content header`;
    }
    return undefined;
  }

  /** Whether a method may come next. */
  mayBegin(channel: number): boolean {
    return channel >= this.#expected.length || this.#expected[channel] !== HEADER;
  }

  /** Whole messages came: bodies may follow. */
  passed(channel: number): void {
    if (channel >= this.#expected.length) this.#grow(channel);
    this.#expected[channel] = BODY;
  }

  #grow(channel: number): void {
    const grown = new Uint8Array(2 ** Math.ceil(Math.log2(channel + 1)));
    grown.set(this.#expected);
    this.#expected = grown;
  }
}
