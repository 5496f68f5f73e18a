import net, { type NetConnectOpts, Socket, type SocketConstructorOpts } from 'node:net';

/**
 * Receives octets: `chunk` up to `length`. When `lent`, the socket reads into the same buffer again: whoever needs the
 * octets for longer than the call copies them, or pauses the socket until they are no longer needed.
 */
export type Receive = (chunk: Uint8Array, length: number, lent: boolean) => void;

export const SMALLEST = 4 * 1024;
const LARGEST = 256 * 1024;
/** Reads in a row that leave most of the buffer empty before it shrinks: a burst's end, not a pause in it. */
const SMALL_READS = 8;

/** What all buffers together may have grown by, in octets: bursts on many connections at once must not use up a pod. */
const GROWTH = 64 * 1024 * 1024;

let grown = 0;

/** Whether buffers may grow by so many octets more. */
export function mayGrow(octets: number): boolean {
  return grown + octets <= GROWTH;
}

/** Counts octets by which buffers have grown, or, below 0, shrunk. */
export function countGrowth(octets: number): void {
  grown += octets;
}

/** Ends what goes out on a socket, if that isn't done: Node makes an error, with its stack, for each end behind the first. */
export function endOnce(socket: Socket, octets?: Uint8Array): void {
  if (socket.writableEnded) return;
  if (octets === undefined) socket.end();
  else socket.end(octets);
}

export const READ_BUFFER = Symbol('read buffer');

/** A socket that {@link keepReadBuffer} knows. No WeakMap: its values outlive their keys in V8, until the next major collection. */
export interface Buffered {
  [READ_BUFFER]?: { abandon(): void };
}

/** What all sockets read into that have no buffer of their own: a read and its callback are one step of libuv's. */
const LANDING = Buffer.allocUnsafeSlow(SMALLEST);

/** Octets in which copies of what has landed lie one behind the other: what waits for a slow peer keeps no more than that. */
const COPIES = 16 * 1024;

let copies = Buffer.allocUnsafeSlow(COPIES);
let copied = 0;

/** A copy of a few octets, {@link SMALLEST} at most, in memory that nobody else writes to. */
export function copyOf(octets: Buffer, length: number): Buffer {
  if (copied + length > COPIES) {
    copies = Buffer.allocUnsafeSlow(COPIES);
    copied = 0;
  }
  const begin = copied;
  copied += octets.copy(copies, begin, 0, length);
  return copies.subarray(begin, copied);
}

/**
 * The buffer that a socket reads into. Reads that fill it make it grow, and runs of small ones shrink it: large buffers
 * cost a fifth of the CPU per octet in bulk, and idle connections must not keep them. The smallest is {@link LANDING},
 * which is everybody's.
 */
class ReadBuffer {
  receive: Receive;
  #buffer = LANDING;
  #smallReads = 0;
  #isKept = false;

  /** @param receive whom its octets go to */
  constructor(receive: Receive) {
    this.receive = receive;
  }

  /** Leaves the buffer to whoever needs what was just read: the next read goes into another one. */
  abandon(): void {
    this.#isKept = true;
  }

  /** The buffer for the next read, after one of `length` octets. */
  next(length: number): Buffer {
    const size = this.#buffer.length;
    const isKept = this.#isKept;
    this.#isKept = false;
    if (length === size && size < LARGEST && mayGrow(size * 3)) return this.#resize(size * 4);
    if (size === SMALLEST || length > size / 16) this.#smallReads = 0;
    else if (++this.#smallReads >= SMALL_READS) return this.#resize(size / 4);
    return isKept ? this.#resize(size) : this.#buffer;
  }

  get current(): Buffer {
    return this.#buffer;
  }

  /** Passes on what was read: lent, or a copy of what has landed where others' octets land next. */
  pass(chunk: Uint8Array, length: number): void {
    if (chunk === LANDING) this.receive(copyOf(LANDING, length), length, false);
    else this.receive(chunk, length, true);
  }

  /** To be called once, when the socket is closed: others may grow then. */
  release(): void {
    grown -= this.#buffer.length - SMALLEST;
    this.#buffer = NOTHING;
    this.receive = ignore;
  }

  #resize(size: number): Buffer {
    grown += size - this.#buffer.length;
    this.#smallReads = 0;
    this.#buffer = size === SMALLEST ? LANDING : Buffer.allocUnsafeSlow(size);
    return this.#buffer;
  }
}

const NOTHING = Buffer.alloc(0);
const ignore = (): void => {};

/**
 * Has a socket let go of its listeners once all have heard that it is closed. Each of Node's sockets has a function in the
 * old generation (`onwrite` of its WritableState: V8 puts functions there that are assigned to a property) which keeps
 * it, dead as it is, until the next major collection, and with it all that its listeners know: whole sessions would be moved to
 * the old generation, a tenth of the CPU of short connections.
 */
export function letGoWhenClosed(socket: Socket, buffer?: ReadBuffer): void {
  // No `once`, whose wrapper is larger than the listener: a socket closes but once.
  socket.on('close', () => {
    buffer?.release();
    process.nextTick(() => socket.removeAllListeners());
  });
}

/** The `onread` option of net: reads go into a buffer that is there instead of a new one each. */
function onread(buffer: ReadBuffer): NonNullable<SocketConstructorOpts['onread']> {
  let length = 0;
  return {
    buffer: () => (length === 0 ? buffer.current : buffer.next(length)),
    callback: (octets, chunk) => {
      length = octets;
      buffer.pass(chunk, octets);
      return true;
    },
  };
}

/** Connects a plain socket whose octets go to `receive`; half-open connections are kept, see 'end'. */
export function connectPlain(to: { host: string; port: number }, receive: Receive): Socket {
  const buffer = new ReadBuffer(receive);
  const options: NetConnectOpts = {
    host: to.host,
    port: to.port,
    allowHalfOpen: true,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: 60_000,
    onread: onread(buffer),
  };
  const socket = net.connect(options);
  (socket as Buffered)[READ_BUFFER] = buffer;
  letGoWhenClosed(socket, buffer);
  return socket;
}

/**
 * To be called while a chunk of a socket that was connected is being received: if it was lent, it is so no more, and is
 * its receiver's for as long as it likes.
 */
export function keepReadBuffer(socket: Socket): void {
  (socket as Buffered)[READ_BUFFER]?.abandon();
}

/** Sends the octets of a socket to `receive` as its stream has them, in chunks of their own. */
export function receiveData(socket: Socket, receive: Receive): void {
  socket.on('data', (chunk: Buffer) => receive(chunk, chunk.length, false));
  letGoWhenClosed(socket);
}

/**
 * Takes over an accepted plain socket, so that it reads into a buffer that is there. Node has no public option for that on
 * the server's side: the handle moves to a new socket that is made with `onread`. Where the handle isn't found (another
 * Node), the accepted socket itself serves with 'data' events: slower, and right.
 *
 * @param accepted a socket of a server made with `pauseOnConnect` and `allowHalfOpen`, that nothing has read from
 */
export function adoptPlain(accepted: Socket, receive: Receive): Socket {
  const inside = accepted as unknown as { _handle: unknown };
  const handle = inside._handle;
  if (typeof handle !== 'object' || handle === null || !('useUserBuffer' in handle)) {
    receiveData(accepted, receive);
    accepted.resume();
    return accepted;
  }
  inside._handle = null;
  // Without its handle nothing of the connection is closed by this; the server's count of sockets comes right.
  accepted.destroy();
  const buffer = new ReadBuffer(receive);
  const kept = { handle, allowHalfOpen: true, readable: true, writable: true };
  const options = { ...kept, onread: onread(buffer) } as unknown as SocketConstructorOpts;
  const socket = new Socket(options).resume();
  letGoWhenClosed(socket, buffer);
  return socket;
}
