import { FRAME_HEADER_SIZE, FRAME_OVERHEAD, METHOD } from '../../amqp/constants.ts';
import { WireError } from '../../amqp/error.ts';
import { readBodySize } from '../../amqp/grammar.ts';
import { MessageRun, renumberMessage } from '../../amqp/message-run.ts';

/** Of basic.publish: the octet behind a reserved short, and the bit immediate in the last one. */
const EXCHANGE_AT = FRAME_HEADER_SIZE + 6;
const IMMEDIATE = 2;

/** Octets of a content header frame without properties; and its class (basic) and weight, as one number. */
const PLAIN_HEADER = FRAME_OVERHEAD + 14;
const CLASS_AND_WEIGHT = 60 << 16;

/**
 * Publishes of a client that lie whole in what has been read, and that no broker would end a connection for: their frames
 * get the channel's number at the broker, in place. What is left is taken frame by frame, and what is wrong with it is told.
 */
export class WholePublishes extends MessageRun {
  /** Octets of a message's body. */
  maxMessageSize = 0;
  /** The channel's number at the broker. */
  channel = 0;

  constructor() {
    super(METHOD.basicPublish);
  }

  protected override accepts(
    view: DataView,
    octets: Uint8Array,
    start: number,
    header: number,
    end: number,
  ): boolean {
    const key = start + EXCHANGE_AT + 1 + view.getUint8(start + EXCHANGE_AT);
    if (key >= header - 2) return false;
    const bits = key + 1 + view.getUint8(key);
    if (bits + 2 !== header || (view.getUint8(bits) & IMMEDIATE) !== 0) return false;
    const bodies = header + view.getInt32(header + 3) + FRAME_OVERHEAD;
    let left = bodySize(view, octets, header, bodies);
    if (left > this.maxMessageSize) return false;
    for (let at = bodies; at < end;) {
      const length = view.getInt32(at + 3);
      if (length === 0) return false; // it adds nothing, and isn't passed on
      left -= length;
      at += length + FRAME_OVERHEAD;
    }
    if (left !== 0) return false;
    renumberMessage(view, start, header, end, this.channel);
    return true;
  }
}

/** Octets of the body, as the content header has it; infinite where there is anything wrong with that. */
function bodySize(view: DataView, octets: Uint8Array, header: number, end: number): number {
  const at = header + FRAME_HEADER_SIZE;
  if (end - header === PLAIN_HEADER && view.getInt32(at) === CLASS_AND_WEIGHT) {
    const isPlain = view.getInt32(at + 4) === 0 && view.getUint16(at + 12) === 0;
    if (isPlain) return view.getUint32(at + 8);
  }
  try {
    return readBodySize(octets, header);
  } catch (error) {
    if (error instanceof WireError) return Infinity;
    throw error;
  }
}
