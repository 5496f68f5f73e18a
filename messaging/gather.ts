import type { Socket } from 'node:net';

/**
 * Lets all that is written within one turn leave in one system call, when the turn is over. amqplib's multiplexer writes each
 * frame by itself, which without Nagle's algorithm is a packet each, and costs more than all else that a message costs.
 */
export function gatherWrites(socket: Socket): void {
  const write = socket.write.bind(socket) as (...chunk: unknown[]) => boolean;
  let isGathering = false;
  const flush = (): void => {
    isGathering = false;
    socket.uncork();
  };
  socket.write = (...chunk: unknown[]): boolean => {
    if (!isGathering) {
      isGathering = true;
      socket.cork();
      process.nextTick(flush);
    }
    return write(...chunk);
  };
}
