import { FRAME_OVERHEAD, REPLY } from '../amqp/constants.ts';
import type { WireError } from '../amqp/error.ts';
import type { Conversation } from './conversation.ts';
import type { Refusal } from './limits/limit.ts';

/** Why a client's connection ends whose octets can't be followed, or who was refused by what they say. */
export function clientFault({ visit, fromClient }: Conversation, error: WireError): Refusal {
  if (visit.refusal !== undefined) return visit.refusal;
  const { replyCode, message: text, method } = error;
  if (replyCode === REPLY.channelError) visit.channelAbove();
  if (fromClient.scanner.tooLarge) visit.frameAbove(fromClient.scanner.size + FRAME_OVERHEAD);
  return { code: 'CLIENT_FRAME', replyCode, text, method, silent: false };
}

/** The same for the broker's octets. */
export function brokerFault({ visit, fromBackend }: Conversation, error: WireError): Refusal {
  if (visit.refusal !== undefined) return visit.refusal;
  if (fromBackend.unsplittable) {
    const { replyCode, message: text, method } = error;
    return { code: 'CLIENT_FRAME_MAX', replyCode, text, method, silent: false };
  }
  const text = `the broker's octets are not AMQP: ${error.message}`;
  return { code: 'BACKEND_PROTOCOL', replyCode: REPLY.internalError, text, method: 0, silent: false };
}
