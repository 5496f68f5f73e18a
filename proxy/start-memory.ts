/** When a start is over, in milliseconds. */
const OVER = 1000;

/**
 * Gives back, once, the memory that only the start needed: some 3 MiB. Nothing else is done meanwhile, for some 20 ms, so it is
 * left out where clients are there already; and it needs Node's flag --expose-gc, which the image has.
 */
export function giveBackStartMemory(hasClients: () => boolean): NodeJS.Timeout {
  return setTimeout(() => {
    if (!hasClients()) globalThis.gc?.({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  }, OVER).unref();
}
