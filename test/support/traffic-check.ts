// Whether messages came through as AMQP promises it: what publishers sent and were told, against what receivers got. It
// asks no broker and no clock; whoever runs the clients tells it all.

/** How many faults of one kind are told one by one. */
const TOLD = 5;

/** May it arrive: it has to (confirmed, committed), it may (nothing was promised), it must not (rolled back). */
type Promised = 'has to' | 'may' | 'must not';

interface Message {
  readonly size: number;
  promised: Promised;
  /** What the publisher was answered, where it asked for confirms. */
  answer: 'none' | 'ack' | 'nack';
  arrivals: number;
  /** Who got it without the flag: nobody else may. */
  first: string | undefined;
  /** When a receiver was done with it for good, and which: nobody who comes later may get it. */
  settled: number;
  settledBy: string;
}

export interface Tally {
  published: number;
  confirmed: number;
  nacked: number;
  promised: number;
  arrived: number;
  /** Of those that arrived, with the flag. */
  redelivered: number;
}

/** A message that a receiver got. */
export interface Got {
  /** The broker knows that the receiver is done with it: it must not come again. */
  readonly settle: () => void;
}

/**
 * The body of a message: queue, publisher and number, a line each, then so many octets that are this message's alone.
 * @param size octets behind the three lines
 */
export function encodeBody(queue: string, publisher: string, sequence: number, size: number): Buffer {
  const head = Buffer.from(`${queue}\n${publisher}\n${sequence}\n`, 'latin1');
  const body = Buffer.alloc(head.length + size, `${sequence}/${publisher}.`, 'latin1');
  head.copy(body);
  return body;
}

/** The messages of one channel from its opening to its end: its delivery tags in confirm mode are their numbers. */
export class Publisher {
  readonly name: string;
  readonly queue: string;
  readonly #check: TrafficCheck;
  readonly #messages: Message[] = [];
  readonly #asksConfirms: boolean;
  #answers = 0;
  /** Messages before this one are all answered. */
  #low = 0;

  constructor(check: TrafficCheck, name: string, queue: string, asksConfirms: boolean) {
    this.name = name;
    this.queue = queue;
    this.#check = check;
    this.#asksConfirms = asksConfirms;
  }

  /** The next message's body. @param size octets besides what names it */
  next(size = 0): Buffer {
    this.#messages.push({
      size,
      promised: 'may',
      answer: 'none',
      arrivals: 0,
      first: undefined,
      settled: Infinity,
      settledBy: '',
    });
    this.#check.tally.published += 1;
    return encodeBody(this.queue, this.name, this.#messages.length, size);
  }

  /** Messages so far. */
  get count(): number {
    return this.#messages.length;
  }

  /** Messages that were neither confirmed nor refused yet. */
  get unanswered(): number {
    return this.#asksConfirms ? this.#messages.length - this.#answers : 0;
  }

  /** Messages that the broker confirmed. */
  get confirmed(): number {
    return this.#messages.filter(({ answer }) => answer === 'ack').length;
  }

  /** Messages that arrived at least once. */
  get arrived(): number {
    return this.#messages.filter(({ arrivals }) => arrivals > 0).length;
  }

  /** The numbers of the messages that never arrived, ascending. */
  get missing(): number[] {
    return this.#messages.flatMap(({ arrivals }, index) => (arrivals === 0 ? [index + 1] : []));
  }

  /** The messages behind the first `from`, or all that aren't decided: they have to arrive. */
  owe(from = 0): void {
    this.#promise(from, 'has to');
  }

  /** The messages behind the first `from`: they must never arrive. */
  forbid(from = 0): void {
    this.#promise(from, 'must not');
  }

  /** basic.ack or basic.nack of the broker, with its delivery tag. */
  answered(tag: number, multiple: boolean, isAck: boolean): void {
    const verb = isAck ? 'confirms' : 'refuses';
    const told = `${this.name}: ${verb} ${tag}`;
    const isOpen = multiple ? tag > this.#low : this.#messages[tag - 1]?.answer === 'none';
    if (tag < 1 || tag > this.#messages.length || !isOpen)
      return this.#check.fault('confirm', `${told} of ${this.#messages.length}`);
    for (let at = multiple ? this.#low : tag - 1; at < tag; at += 1) {
      const message = this.#messages[at]!;
      if (message.answer !== 'none') continue;
      message.answer = isAck ? 'ack' : 'nack';
      if (isAck) message.promised = 'has to';
      this.#answers += 1;
      this.#check.tally[isAck ? 'confirmed' : 'nacked'] += 1;
    }
    while ((this.#messages[this.#low]?.answer ?? 'none') !== 'none') this.#low += 1;
    return undefined;
  }

  /**
   * A receiver got the message with this number. What comes on one connection may be overtaken by what was given out
   * again on another one: the flagged copy may be seen before the one without the flag.
   */
  arrivedAt(
    receiver: { readonly name: string; readonly since: number },
    sequence: number,
    size: number,
    redelivered: boolean,
  ): Got | undefined {
    const message = this.#messages[sequence - 1];
    const name = `${this.name} ${sequence} at ${receiver.name}`;
    if (message === undefined) return this.#check.fault('unknown', `${name} was never published`);
    if (message.size !== size)
      return this.#check.fault('damaged', `${name} has ${size} octets of ${message.size}`);
    if (message.promised === 'must not') this.#check.fault('rolled back', name);
    if (receiver.since > message.settled)
      this.#check.fault('settled', `${name}, acknowledged at ${message.settledBy}`);
    if (!redelivered) {
      if (message.first !== undefined)
        this.#check.fault('doubled', `${name} without the flag, as at ${message.first}`);
      message.first = receiver.name;
    }
    message.arrivals += 1;
    return {
      settle: () => {
        message.settled = Math.min(message.settled, this.#check.tick());
        message.settledBy = receiver.name;
      },
    };
  }

  /** Tells what is wrong when nothing more will come. */
  conclude(): void {
    for (const [index, { promised, answer, arrivals }] of this.#messages.entries()) {
      const name = `${this.name} ${index + 1}`;
      if (promised === 'has to') this.#check.tally.promised += 1;
      if (promised === 'has to' && arrivals === 0)
        this.#check.fault('lost', `${name}${answer === 'ack' ? ', confirmed' : ''}`);
      if (this.#asksConfirms && answer === 'none') this.#check.fault('unanswered', name);
    }
  }

  #promise(from: number, promised: Promised): void {
    for (const message of this.#messages.slice(from))
      if (message.promised === 'may') message.promised = promised;
  }
}

/** What one consumer, or one channel that gets, is given out of one queue. */
export class Receiver {
  readonly name: string;
  /** When it came, by the check's ticks. */
  readonly since: number;
  readonly #check: TrafficCheck;
  readonly #queue: string;
  /** The last number that came without the flag, by publisher. */
  readonly #last = new Map<string, number>();

  constructor(check: TrafficCheck, name: string, queue: string) {
    this.#check = check;
    this.name = name;
    this.since = check.tick();
    this.#queue = queue;
  }

  /** @returns undefined for what is no message of anybody, or not whole */
  got(body: Buffer, redelivered: boolean): Got | undefined {
    const { tally } = this.#check;
    tally.arrived += 1;
    if (redelivered) tally.redelivered += 1;
    const [queue = '', publisher = '', number = ''] = body.toString('latin1', 0, 300).split('\n', 3);
    const sequence = Number(number);
    const size = body.length - queue.length - publisher.length - number.length - 3;
    const isWhole = size >= 0 && encodeBody(queue, publisher, sequence, size).equals(body);
    const name = `${JSON.stringify(body.toString('latin1', 0, 60))} at ${this.name}`;
    if (!isWhole) return this.#check.fault('damaged', name);
    if (queue !== this.#queue) this.#check.fault('crossed', `${name}, which reads ${this.#queue}`);
    if (!redelivered) {
      const last = this.#last.get(publisher) ?? 0;
      if (sequence < last)
        this.#check.fault('order', `${publisher} ${sequence} at ${this.name} behind ${last}`);
      this.#last.set(publisher, sequence);
    }
    const known = this.#check.publisherNamed(publisher);
    if (known === undefined) return this.#check.fault('unknown', `${name}: no such publisher`);
    return known.arrivedAt(this, sequence, size, redelivered);
  }
}

export class TrafficCheck {
  readonly tally: Tally = { published: 0, confirmed: 0, nacked: 0, promised: 0, arrived: 0, redelivered: 0 };
  readonly #publishers = new Map<string, Publisher>();
  readonly #faults = new Map<string, string[]>();
  #ticks = 0;

  /** @param name unique, of one channel from its opening to its end. No line break in either. */
  publisher(name: string, queue: string, { confirms = false } = {}): Publisher {
    if (this.#publishers.has(name)) throw new Error(`there is a publisher ${name}`);
    const publisher = new Publisher(this, name, queue, confirms);
    this.#publishers.set(name, publisher);
    return publisher;
  }

  receiver(name: string, queue: string): Receiver {
    return new Receiver(this, name, queue);
  }

  /** What tells earlier from later. */
  tick(): number {
    this.#ticks += 1;
    return this.#ticks;
  }

  publisherNamed(name: string): Publisher | undefined {
    return this.#publishers.get(name);
  }

  /** Notes what is wrong, here or with the client that found it. */
  fault(kind: string, text: string): undefined {
    const texts = this.#faults.get(kind);
    if (texts === undefined) this.#faults.set(kind, [text]);
    else texts.push(text);
    return undefined;
  }

  /**
   * What was wrong, when all queues were read empty: `KIND: …`, the first of each kind and how many more there are.
   * Kinds: lost, doubled, settled (came to who came after its end), crossed, order, damaged, unknown,
   * rolled back, confirm (of nothing, or again), unanswered. To be called once.
   */
  conclude(): string[] {
    for (const publisher of this.#publishers.values()) publisher.conclude();
    return [...this.#faults].flatMap(([kind, texts]) => [
      ...texts.slice(0, TOLD).map((text) => `${kind}: ${text}`),
      ...(texts.length > TOLD ? [`${kind}: and ${texts.length - TOLD} more`] : []),
    ]);
  }
}
