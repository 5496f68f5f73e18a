import { Socket } from 'node:net';
import {
  type Buffered,
  copyOf,
  countGrowth,
  mayGrow,
  READ_BUFFER,
  type Receive,
  receiveData,
  SMALLEST,
} from './socket.ts';

// What comes by TLS. Node hands on each record by itself, and most records end in the midst of a message: to follow and to
// write each of them costs more than to decrypt it. So what comes within one turn of the event loop is put together.

/** Octets that a record has at most (RFC 8446, section 5.1). */
const RECORD = 16 * 1024;

/** Octets that can be put together. */
const SIZES: readonly number[] = [RECORD, 4 * RECORD, 16 * RECORD];

const LARGEST = SIZES.at(-1)!;

/**
 * Where Node puts the records of all sockets, each within the call that tells of it: with TLS there are octets only once
 * they are decrypted. So no socket needs a buffer of its own while nothing comes.
 */
const landing = Buffer.allocUnsafeSlow(RECORD);

/** One block of each size for whoever needs it next. */
const spare: (Buffer | undefined)[] = SIZES.map(() => undefined);

function takeBlock(at: number): Buffer {
  const block = spare[at] ?? Buffer.allocUnsafeSlow(SIZES[at]!);
  spare[at] = undefined;
  return block;
}

function giveBlock(block: Buffer): void {
  spare[SIZES.indexOf(block.length)] = block;
}

/** Whose records are put together. */
let gathering: RecordReads | undefined;
let endsTurn = false;

/** From now on, and to the turn's end at most, this one's: what has come before of another is handed on. */
function gather(next: RecordReads): void {
  if (!endsTurn) {
    endsTurn = true;
    setImmediate(turnEnds);
  }
  if (gathering === next) return;
  const before = gathering;
  gathering = next;
  before?.handOn();
}

function turnEnds(): void {
  endsTurn = false;
  const last = gathering;
  gathering = undefined;
  last?.handOn();
}

/** Records of one socket, on their way to its receiver. */
class RecordReads {
  readonly #socket: Socket;
  readonly #receive: Receive;
  /** What has come, and wasn't handed on. */
  #block: Buffer | undefined;
  #filled = 0;
  /** What the receiver goes on using until the socket flows again. */
  #lent: Buffer | undefined;
  #isKept = false;

  constructor(socket: Socket, receive: Receive) {
    this.#socket = socket;
    this.#receive = receive;
  }

  /** Leaves the octets that are being received to the receiver. */
  abandon(): void {
    this.#isKept = true;
  }

  /**
   * Takes a record that has just landed.
   * @returns false when no more should be read for now
   */
  take(length: number): boolean {
    const goesOn = this.#add(length);
    gather(this); // only now: what it hands on may have anything done that lands other octets
    return goesOn;
  }

  #add(length: number): boolean {
    if (this.#filled > 0 && this.#filled + length > this.#block!.length) this.#grow();
    if (this.#isHeldBack) {
      this.handOn();
      return this.#socket.push(Buffer.from(landing.subarray(0, length)));
    }
    this.#block ??= takeBlock(0);
    landing.copy(this.#block, this.#filled, 0, length);
    this.#filled += length;
    // Not when the next record comes: a receiver that pauses would find it here.
    if (this.#filled > LARGEST - RECORD) this.deliver();
    return true;
  }

  /** Puts what has come into a larger block, or hands it on. */
  #grow(): void {
    const block = this.#block!;
    const at = SIZES.indexOf(block.length) + 1;
    if (!mayGrow(SIZES[at]!)) {
      this.handOn();
      return;
    }
    this.#block = takeBlock(at);
    block.copy(this.#block, 0, 0, this.#filled);
    giveBlock(block);
  }

  /** Whether what comes has to wait in the socket, as readable streams do it. */
  get #isHeldBack(): boolean {
    return this.#socket.isPaused() || this.#socket.readableLength > 0;
  }

  /** Hands on what has come: to the receiver, or for as long as the socket is held back to that. */
  handOn(): void {
    if (this.#filled === 0) return;
    if (!this.#isHeldBack && !this.#socket.destroyed) {
      this.deliver();
      return;
    }
    const octets = Buffer.from(this.#block!.subarray(0, this.#filled));
    this.#drop();
    if (!this.#socket.destroyed) this.#socket.push(octets);
  }

  /** Gives the receiver what has come. */
  deliver(): void {
    const block = this.#block;
    if (block === undefined) return;
    const filled = this.#filled;
    this.#block = undefined;
    this.#filled = 0;
    if (filled <= SMALLEST) {
      // A block is too much for what a receiver that pauses would keep of it.
      const octets = copyOf(block, filled);
      giveBlock(block);
      this.#receive(octets, filled, false);
      return;
    }
    this.#receive(block, filled, true);
    const isKept = this.#isKept;
    this.#isKept = false;
    if (isKept) return;
    if (this.#socket.isPaused()) this.#lend(block);
    else giveBlock(block);
  }

  #lend(block: Buffer): void {
    if (this.#lent !== undefined) countGrowth(-this.#lent.length);
    this.#lent = block;
    countGrowth(block.length);
  }

  /** The receiver needs what it was lent no more. */
  settle(): void {
    if (this.#lent === undefined) return;
    countGrowth(-this.#lent.length);
    giveBlock(this.#lent);
    this.#lent = undefined;
  }

  #drop(): void {
    if (this.#block !== undefined) giveBlock(this.#block);
    this.#block = undefined;
    this.#filled = 0;
  }

  /** The socket is gone. What is lent may still be on its way. */
  close(): void {
    this.#drop();
    if (this.#lent !== undefined) countGrowth(-this.#lent.length);
    this.#lent = undefined;
  }
}

const RECORDS = Symbol('records');

interface Reading extends Socket, Buffered {
  [RECORDS]: RecordReads;
}

function landed(this: Reading, length: number): boolean {
  return this[RECORDS].take(length);
}

function flows(this: Reading): void {
  this[RECORDS].settle();
}

/** What has come goes before the end, or the error, that came behind it. */
function ends(this: Reading): void {
  this[RECORDS].deliver();
}

function closes(this: Reading): void {
  this[RECORDS].close();
}

/** What net's option `onread` sets, which Node's TLS servers have no way to ask for: two properties with symbols of its own. */
const [bufferKey, callbackKey] = ((): (symbol | undefined)[] => {
  const socket = new Socket({ onread: { buffer: landing, callback: landed } });
  const properties = socket as unknown as Record<symbol, unknown>;
  const symbols = Object.getOwnPropertySymbols(socket);
  return [landing, landed].map((value) => symbols.find((symbol) => properties[symbol] === value));
})();

interface Inside {
  _handle?: { useUserBuffer?: (buffer: Uint8Array) => void } | null;
  [property: symbol]: unknown;
}

/**
 * Sends what comes on a TLS socket to `receive`, as much at a time as comes within one turn of the event loop. Where Node's
 * sockets have no buffers of others' (another Node), each record comes by itself: slower, and right.
 *
 * @param socket nothing of it was read yet
 */
export function receiveRecords(socket: Socket, receive: Receive): void {
  const inside = socket as unknown as Inside;
  const handle = inside._handle;
  if (bufferKey !== undefined && callbackKey !== undefined && typeof handle?.useUserBuffer === 'function') {
    const records = new RecordReads(socket, receive);
    (socket as Reading)[RECORDS] = records;
    (socket as Reading)[READ_BUFFER] = records;
    inside[bufferKey] = landing;
    inside[callbackKey] = landed;
    handle.useUserBuffer(landing);
    socket.prependListener('end', ends).prependListener('error', ends);
    socket.on('resume', flows).on('close', closes);
  }
  receiveData(socket, receive);
}
