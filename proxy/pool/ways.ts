import { Outlet, type Source } from '../outlet.ts';
import { blocks } from './blocks.ts';
import type { Upstream } from './upstream.ts';

const giveBlock = (octets: Uint8Array): void => blocks.give(octets);

/** Octets up to which pieces are copied into one. */
const JOINED = 64 * 1024;

/** One client's way into one connection to the broker. */
interface Way {
  readonly upstream: Upstream;
  readonly outlet: Outlet;
  /** What is to be written, in order. */
  readonly pieces: Uint8Array[];
  /** Those of them that are of {@link blocks}. */
  readonly blocks: Uint8Array[];
  /** Some of it lies in a buffer that the client's socket reads into again. */
  lent: boolean;
}

/**
 * Gathers a client's frames by the connection that they go to: what lies one behind the other is one piece, and each
 * connection gets one write for a chunk of the client's. While one of them is behind, the client is held back.
 */
export class Ways {
  readonly #ways = new Map<Upstream, Way>();
  readonly #holder: () => Source;
  readonly #copies: boolean;
  readonly #used: Way[] = [];
  /** The piece that may still grow, and where it goes. */
  #upstream: Upstream | undefined;
  #way: Way | undefined;
  #octets: Uint8Array | undefined;
  #start = 0;
  #end = 0;
  #lent = false;

  /**
   * @param holder makes what holds the client back
   * @param copies whether the connections encrypt, see {@link Outlet}
   */
  constructor(holder: () => Source, copies: boolean) {
    this.#holder = holder;
    this.#copies = copies;
  }

  /**
   * Whole frames for a connection, behind all that it was given before.
   * @param lent whether they lie in a buffer that the client's socket reads into again
   */
  add(upstream: Upstream, octets: Uint8Array, start: number, end: number, lent: boolean): void {
    if (upstream === this.#upstream && octets === this.#octets && start === this.#end) {
      this.#end = end;
      return;
    }
    this.#cut();
    if (upstream !== this.#upstream) {
      this.#upstream = upstream;
      this.#way = this.#wayTo(upstream);
    }
    this.#octets = octets;
    this.#start = start;
    this.#end = end;
    this.#lent = lent;
  }

  #wayTo(upstream: Upstream): Way {
    let way = this.#ways.get(upstream);
    if (way === undefined) {
      for (const old of this.#ways.keys()) if (old.socket.destroyed) this.#ways.delete(old);
      way = {
        upstream,
        outlet: new Outlet(this.#holder(), upstream.socket, this.#copies, giveBlock),
        pieces: [],
        blocks: [],
        lent: false,
      };
      this.#ways.set(upstream, way);
    }
    return way;
  }

  #cut(): void {
    if (this.#octets === undefined) return;
    const way = this.#way!;
    if (way.pieces.length === 0) this.#used.push(way);
    way.lent ||= this.#lent;
    const piece = this.#octets.subarray(this.#start, this.#end);
    way.pieces.push(piece);
    if (blocks.owns(piece)) way.blocks.push(piece);
    this.#octets = undefined;
  }

  /** Writes all that was gathered. */
  flush(): void {
    this.#cut();
    for (let way = this.#used.pop(); way !== undefined; way = this.#used.pop()) {
      if (!way.upstream.gather(way.pieces)) {
        if (way.pieces.length > 1) join(way);
        way.outlet.write(way.pieces, way.lent, way.blocks);
      }
      while (way.pieces.length > 0) way.pieces.pop(); // cheaper than to set the length
      if (way.blocks.length > 0) way.blocks.length = 0;
      way.lent = false;
    }
  }

  /** The connection is gone: it holds the client back no more. */
  forget(upstream: Upstream): void {
    if (this.#upstream === upstream) {
      this.#octets = undefined;
      this.#upstream = undefined;
    }
    const way = this.#ways.get(upstream);
    if (way === undefined) return;
    way.pieces.length = 0;
    way.blocks.length = 0;
    way.lent = false;
    way.outlet.release();
    this.#ways.delete(upstream);
  }

  /** Lets the client flow, however far behind the connections are. */
  release(): void {
    for (const { outlet } of this.#ways.values()) outlet.release();
  }
}

/** Puts pieces together that are cheaper to copy than to be written one by one. */
function join(way: Way): void {
  const { pieces } = way;
  let size = 0;
  for (const piece of pieces) size += piece.length;
  if (size > JOINED) return;
  const block = blocks.take(size);
  let at = 0;
  for (const piece of pieces) {
    block.set(piece, at);
    at += piece.length;
    if (blocks.owns(piece)) blocks.give(piece);
  }
  pieces.length = 0;
  way.blocks.length = 0;
  way.lent = false;
  pieces.push(block.length === size ? block : block.subarray(0, size));
  if (blocks.owns(block)) way.blocks.push(block);
}
