import {
  FRAME_BODY,
  FRAME_END,
  FRAME_HEADER,
  FRAME_HEADER_SIZE,
  FRAME_METHOD,
  FRAME_OVERHEAD,
  METHOD,
} from '../../amqp/constants.ts';
import { WireError } from '../../amqp/error.ts';
import { readBodySize } from '../../amqp/grammar.ts';
import { MessageRun, renumberMessage } from '../../amqp/message-run.ts';

/** Of basic.publish: the octet behind a reserved short, and the bit immediate in the last one. */
const EXCHANGE_AT = FRAME_HEADER_SIZE + 6;
const IMMEDIATE = 2;

/** Octets of the smallest payload of basic.publish: both names are empty. */
const SMALLEST = 9;

/** Octets of a content header's payload without properties; its class (basic) and weight, as one number; the size's lower half. */
const PLAIN = 14;
const CLASS_AND_WEIGHT = 60 << 16;
const BODY_SIZE_AT = FRAME_HEADER_SIZE + 8;

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

  /** All is looked at in one loop: with another one in front that only walks the frames a small message costs a half more. */
  override find(octets: Uint8Array, start: number, end: number, maxPayload: number): boolean {
    const view = this.viewOf(octets);
    const offset = octets.byteOffset;
    const limit = offset + end;
    const channel = view.getUint16(offset + start + 1);
    const isMethod = (FRAME_METHOD << 16) | channel;
    const isHeader = (FRAME_HEADER << 16) | channel;
    const isBody = (FRAME_BODY << 16) | channel;
    const { maxMessageSize, channel: upstream } = this;
    let messages = 0;
    let bodies = 0;
    let at = offset + start;
    while (limit - at > EXCHANGE_AT && view.getUint32(at) >>> 8 === isMethod) {
      // Read as a signed number, a size of 2^31 and more is below 0.
      let size = view.getInt32(at + 3);
      if (size < SMALLEST || size > maxPayload) break;
      if (view.getInt32(at + FRAME_HEADER_SIZE) !== METHOD.basicPublish) break;
      const header = at + size + FRAME_OVERHEAD;
      if (limit - header < FRAME_OVERHEAD + PLAIN || view.getUint8(header - 1) !== FRAME_END) break;
      const key = at + EXCHANGE_AT + 1 + view.getUint8(at + EXCHANGE_AT);
      if (key >= header - 2) break;
      const bits = key + 1 + view.getUint8(key);
      if (bits + 2 !== header || (view.getUint8(bits) & IMMEDIATE) !== 0) break;
      if (view.getUint32(header) >>> 8 !== isHeader) break;
      size = view.getInt32(header + 3);
      const body = header + size + FRAME_OVERHEAD;
      if (size < 0 || size > maxPayload || body > limit || view.getUint8(body - 1) !== FRAME_END) break;
      let left = isPlain(view, header, size)
        ? view.getUint32(header + BODY_SIZE_AT)
        : bodySize(this.octets, header);
      if (left > maxMessageSize) break;
      let count = 0;
      let next = body;
      while (left > 0 && limit - next >= FRAME_OVERHEAD && view.getUint32(next) >>> 8 === isBody) {
        size = view.getInt32(next + 3);
        const behind = next + size + FRAME_OVERHEAD;
        // One without octets adds nothing, and isn't passed on.
        if (size <= 0 || size > maxPayload || behind > limit || view.getUint8(behind - 1) !== FRAME_END)
          break;
        left -= size;
        next = behind;
        count++;
      }
      if (left !== 0) break;
      renumberMessage(view, at, header, next, upstream);
      messages++;
      bodies += count;
      at = next;
    }
    this.messages = messages;
    this.bodies = bodies;
    this.end = at - offset;
    return messages > 0;
  }
}

/** Whether a content header has no properties, and a body of less than 4 GiB. @param size octets of its payload */
function isPlain(view: DataView, header: number, size: number): boolean {
  const at = header + FRAME_HEADER_SIZE;
  return (
    size === PLAIN &&
    view.getInt32(at) === CLASS_AND_WEIGHT &&
    view.getInt32(at + 4) === 0 &&
    view.getUint16(at + 12) === 0
  );
}

/** Octets of the body, as the content header has it; infinite where there is anything wrong with that. */
function bodySize(octets: Uint8Array, header: number): number {
  try {
    return readBodySize(octets, header);
  } catch (error) {
    if (error instanceof WireError) return Infinity;
    throw error;
  }
}
