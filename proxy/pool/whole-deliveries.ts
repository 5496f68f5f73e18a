import { FRAME_HEADER_SIZE, FRAME_OVERHEAD, METHOD } from '../../amqp/constants.ts';
import { MessageRun, renumberMessage } from '../../amqp/message-run.ts';
import type { ChannelState } from './channel-state.ts';

/** Octets of a content header frame without properties. */
const PLAIN_HEADER = FRAME_OVERHEAD + 14;

/**
 * Deliveries of the broker that lie whole in what has been read: the channel's state hears of them, and their frames get the
 * client's number of the channel, in place. What is left is taken frame by frame.
 */
export class WholeDeliveries extends MessageRun {
  state: ChannelState | undefined;
  /** The client's number of the channel. */
  channel = 0;

  constructor() {
    super(METHOD.basicDeliver);
  }

  protected override accepts(
    view: DataView,
    octets: Uint8Array,
    start: number,
    header: number,
    end: number,
  ): boolean {
    const bodies = header + view.getInt32(header + 3) + FRAME_OVERHEAD;
    if (bodies - header < PLAIN_HEADER) return false;
    const sizeAt = header + FRAME_HEADER_SIZE + 4; // behind class and weight
    let left = view.getUint32(sizeAt) * 0x1_0000_0000 + view.getUint32(sizeAt + 4);
    for (let at = bodies; at < end;) {
      const length = view.getInt32(at + 3);
      left -= length;
      at += length + FRAME_OVERHEAD;
    }
    if (left !== 0 || this.state?.delivers(octets, start, header) !== true) return false;
    renumberMessage(view, start, header, end, this.channel);
    return true;
  }
}
