import { FRAME_HEADER, FRAME_OVERHEAD, METHOD, REPLY } from '../../amqp/constants.ts';
import { WireError } from '../../amqp/error.ts';
import { readBodySize } from '../../amqp/grammar.ts';
import { readConsumerTag } from '../../amqp/method.ts';
import { latin1 } from '../latin1.ts';
import { ChannelState } from './channel-state.ts';

import { type Kept, Publish } from './publish.ts';
import type { UpstreamChannel } from './upstream-channel.ts';
import type { Request } from './waiting.ts';

/**
 * `open` · `closing` the client has closed it, and the broker hasn't done with it · `refused` the client has been told
 * that it is closed, and hasn't answered.
 */
type Phase = 'open' | 'closing' | 'refused';

/** The bit no-wait of confirm.select. */
const NO_WAIT = 1;

/** A channel of the client, and where it is at the broker. */
export class ClientChannel {
  readonly number: number;
  phase: Phase = 'open';
  state: ChannelState;
  /** undefined until something needs it. */
  upstream: UpstreamChannel | undefined;
  /** The state is to be made anew on the next channel at the broker. */
  toRestore = false;
  waiting: Request | undefined;
  readonly publish: Publish;
  /** The last method that went to the broker: what it closes a connection for names one. */
  lastMethod = 0;

  constructor(number: number, resume: boolean, kept: Kept) {
    this.number = number;
    this.state = new ChannelState({ resume });
    this.publish = new Publish(kept);
  }

  /** Whether the broker has closed the channel, and the client's answer hasn't come. */
  get closedByBroker(): boolean {
    return this.upstream?.usable === false && this.phase === 'open';
  }

  /**
   * Takes a confirm.select that the broker would only agree to, in a frame before `end`: it goes on as one that isn't answered.
   * @returns whether it is such a one: the client can be answered at once
   */
  selectsConfirms(method: number, octets: Uint8Array, end: number): boolean {
    if (method !== METHOD.confirmSelect || !this.state.takesConfirms) return false;
    if (octets[end - 2] !== 0) return false; // the client wants no answer
    octets[end - 2] = NO_WAIT;
    this.state.selectsConfirms();
    return true;
  }

  /** Whether a publish that begins here and is whole can go to the broker at once. */
  get takesPublishes(): boolean {
    return this.phase === 'open' && this.upstream?.usable === true && !this.publish.underWay;
  }

  /**
   * Whether a basic.cancel is of a consumer whose basic.consume the broker hasn't answered yet: RabbitMQ 4.0 may end the
   * connection for it (541, measured).
   */
  cancelsEarly(octets: Uint8Array, start: number, end: number): boolean {
    const { tagStart, tagEnd } = readConsumerTag(octets.subarray(start, end));
    return this.state.isStarting(latin1(octets, start + tagStart, start + tagEnd));
  }

  /**
   * Octets of the body that a content frame of the client announces, or has.
   * @throws WireError 505 when another kind of frame is due, 502 when the frame is malformed
   */
  contentSize(type: number, octets: Uint8Array, start: number, end: number): number {
    const isHeader = type === FRAME_HEADER;
    if (isHeader !== this.publish.wantsHeader) {
      const [seen, due] = isHeader ? ['header', 'body'] : ['body', 'header'];
      const text = `a content ${seen} on channel ${this.number} where a content ${due} is due`;
      throw new WireError(REPLY.unexpectedFrame, text, METHOD.basicPublish);
    }
    return isHeader ? readBodySize(octets, start) : end - start - FRAME_OVERHEAD;
  }
}
