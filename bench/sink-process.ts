import { serve } from './remote.ts';
import { type Counts, Sink } from './sink.ts';

// The sink as a process of its own, so that its CPU isn't the load's.

const sink = new Sink();
const functions = {
  /** Its port. */
  start: () => sink.start(),
  counts: (): Counts => ({ opened: sink.opened, open: sink.open, published: sink.published }),
  /** See {@link Sink.hasPublished}. */
  hasPublished: (count: number) => sink.hasPublished(count),
  /** See {@link Sink.deliver}. */
  deliver: (count: number, size: number) => sink.deliver(count, size),
};
export type SinkFunctions = typeof functions;
serve(functions);
