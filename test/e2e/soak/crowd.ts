// Clients that go on for the whole soak, and whether they do.
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../../../common/errors.ts';
import { Chance } from './chance.ts';
import type { Faults } from './faults.ts';

/** What a client does with one connection, until it ends it itself or is lost; it says so each time that it gets on. */
export type Work = (getsOn: () => void) => Promise<void>;

/** So long after a storm a client may still be lost for it. */
const AFTER_STORM_MS = 5000;

export class Crowd {
  readonly #seed: number;
  readonly #faults: Faults;
  readonly #turns = new Map<string, number>();
  readonly #loops: Promise<void>[] = [];
  #calmFrom = 0;
  /** Clients that were lost while the broker was away. */
  lost = 0;

  constructor(seed: number, faults: Faults) {
    this.#seed = seed;
    this.#faults = faults;
  }

  /** Lets a client do its work again and again, until it is told to stop. @param name unique */
  keep(name: string, stop: AbortSignal, work: Work): void {
    this.#turns.set(name, 0);
    this.#loops.push(this.#again(name, stop, work));
  }

  /** The broker goes: clients may be lost, until {@link calm}. */
  storm(): void {
    this.#calmFrom = Infinity;
  }

  calm(): void {
    this.#calmFrom = performance.now() + AFTER_STORM_MS;
  }

  /** Waits until all get on from here; the names of those that don't within so many milliseconds. */
  async stuck(milliseconds: number): Promise<string[]> {
    const marks = new Map(this.#turns);
    const deadline = performance.now() + milliseconds;
    for (;;) {
      const stuck = [...marks].flatMap(([name, mark]) => (this.#turns.get(name)! > mark ? [] : name));
      if (stuck.length === 0 || performance.now() > deadline) return stuck;
      await sleep(100);
    }
  }

  /** Waits until all have stopped, as they were told. */
  async ended(): Promise<void> {
    await Promise.all(this.#loops);
  }

  async #again(name: string, stop: AbortSignal, work: Work): Promise<void> {
    const chance = new Chance(this.#seed, `pauses of ${name}`);
    while (!stop.aborted) {
      try {
        await work(() => this.#turns.set(name, this.#turns.get(name)! + 1));
      } catch (error) {
        if (performance.now() < this.#calmFrom) this.lost += 1;
        else this.#faults.note('client', `${name}: ${messageOf(error)}`);
        await sleep(chance.between(200, 1500));
      }
    }
  }
}
