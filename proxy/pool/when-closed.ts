import type { Upstream } from './upstream.ts';

/** Calls back when the connections have ended. */
export function whenClosed(upstreams: readonly Upstream[], done: () => void): void {
  let left = 1;
  const ended = (): void => {
    if (--left === 0) done();
  };
  for (const { socket } of upstreams) {
    if (socket.closed) continue;
    left++;
    socket.once('close', ended);
  }
  ended();
}
