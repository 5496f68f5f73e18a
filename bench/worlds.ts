import { messageOf } from '../common/errors.ts';
import type { World } from './cases.ts';
import type { RelayFunctions } from './delay-process.ts';
import { type Rabbit, startRabbit } from './rabbit.ts';
import { Remote } from './remote.ts';
import type { Target, TargetKind } from './targets.ts';

/** Milliseconds to the broker of the world `far`, each way. */
const DELAY_MS = 10;

/** What a world needs cannot be had on this machine. */
export class Missing extends Error {
  /** Its name. */
  readonly what: string;

  constructor(what: string, cause: unknown) {
    super(messageOf(cause).trim().split('\n').at(-1), { cause });
    this.what = what;
  }
}

/** Targets that run, and what is behind them. */
export class Place implements AsyncDisposable {
  readonly #cleanup = new AsyncDisposableStack();
  readonly #kinds: readonly TargetKind[];
  #upstream = 0;
  #running: readonly Target[] = [];
  rabbit: Rabbit | undefined;

  private constructor(kinds: readonly TargetKind[]) {
    this.#kinds = kinds;
  }

  /** Rejects with {@link Missing} where there is no RabbitMQ. @param sink the port of the sink */
  static async start(world: World, sink: number, kinds: readonly TargetKind[]): Promise<Place> {
    const place = new Place(kinds);
    try {
      place.#upstream = await place.#behind(world, sink);
      if (world !== 'fresh') place.#running = await place.#startAll();
    } catch (error) {
      await place[Symbol.asyncDispose]();
      throw error;
    }
    return place;
  }

  async #behind(world: World, sink: number): Promise<number> {
    if (world === 'far') {
      const relay = this.#cleanup.use(
        new Remote<RelayFunctions>('delay-process.ts', [sink, DELAY_MS].map(String)),
      );
      return relay.call('start');
    }
    if (world !== 'rabbit') return sink;
    try {
      this.rabbit = await startRabbit('4.0', this.#cleanup);
    } catch (error) {
      throw new Missing('rabbitmq', error);
    }
    return this.rabbit.port;
  }

  async #startAll(): Promise<Target[]> {
    const targets: Target[] = [];
    for (const kind of this.#kinds) targets.push(this.#cleanup.use(await kind.start(this.#upstream, true)));
    return targets;
  }

  /**
   * Does something with each target, one after the other; starts it for this where none runs. Another one is first in each
   * round, so that none has always the same before it.
   * @param tls whether one that is started listens by TLS, too
   */
  async each(round: number, tls: boolean, work: (target: Target) => Promise<void>): Promise<void> {
    for (const i of this.#kinds.keys()) {
      const at = (i + round) % this.#kinds.length;
      const running = this.#running[at];
      if (running !== undefined) {
        await work(running);
        continue;
      }
      await using target = await this.#kinds[at]!.start(this.#upstream, tls);
      await work(target);
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#cleanup.disposeAsync();
  }
}
