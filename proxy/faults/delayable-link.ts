import type { Connect, Link, LinkClient } from '../link.ts';
import { DelayLine } from './delay-line.ts';
import type { Direction } from './fault.ts';

/**
 * A client's way to the broker, on which octets can be held back in either direction. Without a delay all passes as without
 * this link. Ends keep their place behind the octets before them; what the proxy itself ends, it ends at once.
 */
export class DelayableLink implements Link {
  readonly #link: Link;
  readonly #client: LinkClient;
  readonly #toBroker: DelayLine;
  readonly #toClient: DelayLine;

  /** @param closed called when no octet comes any more */
  constructor(connect: Connect, client: LinkClient, closed: () => void) {
    const { events, gate } = client;
    this.#client = client;
    this.#toBroker = new DelayLine(gate.holder());
    this.#toClient = new DelayLine({
      pause: () => this.#link.pause(),
      resume: () => this.#link.resume(),
    });
    const behind = (work: () => void): void => {
      if (this.#toClient.isOpen) work();
      else this.#toClient.hold(0, work);
    };
    this.#link = connect({
      ...client,
      backlog: () => client.backlog() + this.#toClient.length,
      events: {
        ...events,
        receive: (chunk, length, lent) => {
          if (this.#toClient.isOpen) events.receive(chunk, length, lent);
          else {
            const octets = Uint8Array.from(chunk.subarray(0, length));
            this.#toClient.hold(length, () => events.receive(octets, length, false));
          }
        },
        ended: () => behind(() => events.ended()),
        closed: () =>
          behind(() => {
            this.#drop();
            closed();
            events.closed();
          }),
      },
    });
  }

  /** Holds octets back for so many milliseconds; 0 ends the delay. */
  delay(direction: Direction, milliseconds: number): void {
    (direction === 'client_to_broker' ? this.#toBroker : this.#toClient).delay(milliseconds);
  }

  get connecting(): boolean {
    return this.#link.connecting;
  }

  get destroyed(): boolean {
    return this.#link.destroyed;
  }

  get readableEnded(): boolean {
    return this.#link.readableEnded && this.#toClient.isEmpty;
  }

  get readableLength(): number {
    return (this.#link.readableLength ?? 0) + this.#toClient.length;
  }

  get held(): number | undefined {
    return this.#link.held;
  }

  get localEnd(): string | undefined {
    return this.#link.localEnd;
  }

  get writableLength(): number {
    return (this.#link.writableLength ?? 0) + this.#toBroker.length;
  }

  pause(): void {
    this.#toClient.pause();
  }

  resume(): void {
    this.#toClient.resume();
  }

  write(pieces: readonly Uint8Array[], lent: boolean): void {
    if (this.#toBroker.isOpen) {
      this.#link.write(pieces, lent);
      return;
    }
    const octets = pieces.map((piece) => Uint8Array.from(piece));
    const length = octets.reduce((sum, piece) => sum + piece.length, 0);
    this.#toBroker.hold(length, () => this.#client.events.guard(() => this.#link.write(octets, false)));
  }

  hold(): void {
    this.#link.hold();
  }

  proceed(): void {
    this.#link.proceed();
  }

  release(): void {
    this.#link.release();
  }

  end(octets?: Uint8Array): void {
    if (this.#toBroker.isOpen) this.#link.end(octets);
    else
      this.#toBroker.hold(octets?.length ?? 0, () => this.#client.events.guard(() => this.#link.end(octets)));
  }

  destroy(): void {
    this.#link.destroy();
    this.#drop();
  }

  reset(): void {
    this.#link.reset?.();
    this.#drop();
  }

  #drop(): void {
    this.#toBroker.drop();
    this.#toClient.drop();
  }

  sweep(now: number): void {
    this.#link.sweep(now);
  }
}
