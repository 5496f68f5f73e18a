import type { Socket } from 'node:net';

/** What a socket of Node has below it, as far as it is needed: TLS lies above the handle of TCP. */
interface Handle {
  readonly _parent?: Handle;
  readonly reset?: (done: () => void) => void;
  close?: (done: () => void) => void;
}

/**
 * Breaks a connection off as a network or a host that fails does: the peer gets a reset (RST), and no word of TLS before.
 * Node resets plain sockets alone. Below TLS the handle of TCP is closed by a reset in place of its usual end; where it
 * isn't found (another Node), the connection ends at once with a FIN, and so does one that has been ended already, which libuv
 * doesn't reset (EINVAL).
 */
export function resetSocket(socket: Socket): void {
  if (socket.writableEnded) {
    socket.destroy();
    return;
  }
  if (!('encrypted' in socket)) {
    socket.resetAndDestroy();
    return;
  }
  const below = (socket as unknown as { readonly _handle: Handle | null })._handle?._parent;
  if (typeof below?.reset === 'function') below.close = (done) => below.reset!(done);
  socket.destroy();
}
