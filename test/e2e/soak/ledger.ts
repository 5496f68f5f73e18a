// What became of each message, in two octets a message: a soak has millions of them.
import type { Faults } from './faults.ts';

const CONFIRMED = 1;
const RECEIVED = 2;
const WAIVED = 4;
/** How often it was published: six bits, which stay at their highest value. */
const SENT = 1 << 3;
const SENT_MASK = 63 * SENT;
/** How often it came without the flag redelivered: seven bits. */
const FRESH = 1 << 9;
const FRESH_MASK = 127 * FRESH;

export interface Tally {
  published: number;
  /** Published once more by the client, which was not told the fate of the first copy. */
  republished: number;
  confirmed: number;
  /** Messages that came at least once. */
  received: number;
  redelivered: number;
}

/** What a body says of itself in its first line: whose it is, and how many octets follow. */
interface Head {
  readonly queue: string;
  readonly publisher: string;
  readonly sequence: number;
  readonly size: number;
}

/** The head as JSON, a line break, and octets that are this message's alone. */
function encodeBody(head: Head): Buffer {
  const line = Buffer.from(`${JSON.stringify(head)}\n`, 'latin1');
  const body = Buffer.alloc(line.length + head.size, `${head.sequence}/${head.publisher}.`, 'latin1');
  line.copy(body);
  return body;
}

/** @returns undefined for what isn't as {@link encodeBody} made it */
function readBody(body: Buffer): Head | undefined {
  try {
    const head = JSON.parse(body.toString('latin1', 0, body.indexOf('\n'))) as Head;
    const isWhole = head.size <= body.length && encodeBody(head).equals(body);
    return isWhole ? head : undefined;
  } catch {
    return undefined;
  }
}

/** The messages of one publisher to one queue. */
export class Publication {
  readonly name: string;
  readonly queue: string;
  readonly #ledger: MessageLedger;
  #states = new Uint16Array(256);
  #count = 0;

  constructor(ledger: MessageLedger, name: string, queue: string) {
    this.#ledger = ledger;
    this.name = name;
    this.queue = queue;
  }

  /** The next message, to be published now. @param size octets besides what names it */
  next(size: number): { sequence: number; body: Buffer } {
    const sequence = (this.#count += 1);
    if (sequence >= this.#states.length) {
      const larger = new Uint16Array(this.#states.length * 2);
      larger.set(this.#states);
      this.#states = larger;
    }
    this.#states[sequence] = SENT;
    this.#ledger.tally.published += 1;
    const { queue, name: publisher } = this;
    return { sequence, body: encodeBody({ queue, publisher, sequence, size }) };
  }

  /** It is published once more. */
  again(sequence: number): void {
    if ((this.#states[sequence]! & SENT_MASK) < SENT_MASK) this.#states[sequence]! += SENT;
    this.#ledger.tally.republished += 1;
  }

  /** The broker confirmed it: it has to come. */
  confirmed(sequence: number): void {
    const state = this.#states[sequence]!;
    if (state & CONFIRMED) return;
    this.#states[sequence] = state | CONFIRMED;
    this.#ledger.tally.confirmed += 1;
    if ((state & (RECEIVED | WAIVED)) === 0) this.#ledger.outstanding += 1;
  }

  /** Its queue went with its connection: it need not come. */
  waive(sequence: number): void {
    const state = this.#states[sequence]!;
    this.#states[sequence] = state | WAIVED;
    if ((state & (CONFIRMED | RECEIVED | WAIVED)) === CONFIRMED) this.#ledger.outstanding -= 1;
  }

  isReceived(sequence: number): boolean {
    return (this.#states[sequence]! & RECEIVED) !== 0;
  }

  /** For the ledger. @returns what is wrong with its coming */
  arrived(sequence: number, redelivered: boolean): string | undefined {
    if (!(sequence >= 1 && sequence <= this.#count)) return 'was never published';
    let state = this.#states[sequence]!;
    if ((state & (CONFIRMED | RECEIVED | WAIVED)) === CONFIRMED) this.#ledger.outstanding -= 1;
    if ((state & RECEIVED) === 0) this.#ledger.tally.received += 1;
    if (redelivered) this.#ledger.tally.redelivered += 1;
    else if ((state & FRESH_MASK) < FRESH_MASK) state += FRESH;
    this.#states[sequence] = state | RECEIVED;
    const [fresh, sent] = [(state & FRESH_MASK) / FRESH, (state & SENT_MASK) / SENT];
    return !redelivered && fresh > sent
      ? `came ${fresh} times without the flag, sent ${sent} times`
      : undefined;
  }

  /** The numbers of what was confirmed and neither came nor was waived. */
  missing(): number[] {
    const missing: number[] = [];
    for (let sequence = 1; sequence <= this.#count; sequence += 1)
      if ((this.#states[sequence]! & (CONFIRMED | RECEIVED | WAIVED)) === CONFIRMED) missing.push(sequence);
    return missing;
  }
}

export class MessageLedger {
  readonly tally: Tally = { published: 0, republished: 0, confirmed: 0, received: 0, redelivered: 0 };
  /** Confirmed, and still to come. */
  outstanding = 0;
  readonly #publications = new Map<string, Publication>();
  readonly #faults: Faults;

  constructor(faults: Faults) {
    this.#faults = faults;
  }

  /** @param name unique */
  publisher(name: string, queue: string): Publication {
    if (this.#publications.has(name)) throw new Error(`there is a publisher ${name}`);
    const publication = new Publication(this, name, queue);
    this.#publications.set(name, publication);
    return publication;
  }

  /** Its queue is gone, and nothing of it is outstanding. */
  forget(publication: Publication): void {
    this.#publications.delete(publication.name);
  }

  /** A body came out of a queue. */
  got(queue: string, body: Buffer, redelivered: boolean): void {
    const head = readBody(body);
    if (head === undefined) {
      const start = JSON.stringify(body.toString('latin1', 0, 80));
      return this.#faults.note('message', `damaged: ${body.length} octets in ${queue}: ${start}`);
    }
    const { publisher, sequence } = head;
    const name = `${publisher} ${sequence} in ${queue}`;
    if (head.queue !== queue) return this.#faults.note('message', `crossed: ${name}, sent to ${head.queue}`);
    const known = this.#publications.get(publisher);
    const wrong = known === undefined ? 'has no publisher' : known.arrived(sequence, redelivered);
    if (wrong !== undefined) this.#faults.note('message', `${name} ${wrong}`);
    return undefined;
  }

  /** Notes what was confirmed and never came, when the queues have been read empty; how many there were. */
  conclude(): number {
    let lost = 0;
    for (const publication of this.#publications.values()) {
      for (const sequence of publication.missing()) {
        lost += 1;
        this.#faults.note(
          'message',
          `lost after confirm: ${publication.name} ${sequence} in ${publication.queue}`,
        );
      }
    }
    return lost;
  }
}
