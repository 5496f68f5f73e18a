import { REPLY } from '../amqp/constants.ts';
import { encodeClose } from '../amqp/method.ts';
import type { Conversation } from './conversation.ts';
import type { Link } from './link.ts';

/** Ends the backend's side: by connection.close where a frame may begin, so that the broker frees exclusive queues at once. */
export function endBackend(
  backend: Link | undefined,
  conversation: Conversation | undefined,
  text: string,
): void {
  if (backend === undefined || backend.destroyed) return;
  if (backend.connecting || conversation?.fromClient.atBoundary === false) backend.destroy();
  else if (conversation?.open !== true || backend.readableEnded) backend.end();
  else {
    const words = conversation.closeSeen ? undefined : encodeClose(REPLY.connectionForced, text);
    conversation.leave(() => (words === undefined ? backend.end() : backend.end(words)));
  }
}
