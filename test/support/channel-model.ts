// What a broker keeps for a channel, from the specification and what RabbitMQ does, as plainly as it can be told: frames
// of a client in, frames of the broker out. Nothing here calls the code under test.
import { frame, method, shortstr } from './amqp-frames.ts';

export interface ModelConsumer {
  readonly queue: string;
  readonly noAck: boolean;
  readonly prefetch: number;
  readonly flags: number;
  readonly table: string;
}

/** What of a channel at the broker decides how it answers, besides messages on their way. */
export interface ModelConfiguration {
  readonly declared: string;
  readonly mode: string;
  readonly prefetch: number;
  readonly channelPrefetch: number;
  readonly consumers: readonly (readonly [string, ModelConsumer])[];
}

export const FRESH: ModelConfiguration = {
  declared: '',
  mode: 'none',
  prefetch: 0,
  channelPrefetch: 0,
  consumers: [],
};

/** Names that brokers make, over all channels. */
let made = 0;

function tagArguments(tag: number, flags: number): Buffer {
  const octets = Buffer.alloc(9);
  octets.writeBigUInt64BE(BigInt(tag));
  octets[8] = flags;
  return octets;
}

/** A header and the body in as many frames as `cuts` says. */
function content(cuts: number): Buffer[] {
  const header = Buffer.alloc(14);
  header.writeUInt16BE(60);
  header.writeBigUInt64BE(BigInt(cuts * 3), 4);
  return [frame(2, 1, header), ...Array.from({ length: cuts }, () => frame(3, 1, Buffer.from('abc')))];
}

export class ModelChannel {
  declared = '';
  mode = 'none';
  prefetch = 0;
  channelPrefetch = 0;
  /** Publishes and acknowledgements of a transaction. */
  transaction = 0;
  nextTag: number;
  published = 0;
  readonly consumers = new Map<string, ModelConsumer>();
  /** By delivery tag. */
  readonly unacked = new Set<number>();
  readonly unconfirmed = new Set<number>();
  /** Delivery tags that the client acknowledged, as they came. */
  readonly settled: { tag: number; multiple: boolean }[] = [];
  /** Frames for the client. */
  readonly out: Buffer[] = [];
  /** Answers that come behind others. */
  readonly late: Buffer[] = [];

  constructor(nextTag = 1) {
    this.nextTag = nextTag;
  }

  get configuration(): ModelConfiguration {
    const { declared, mode, prefetch, channelPrefetch } = this;
    return { declared, mode, prefetch, channelPrefetch, consumers: [...this.consumers] };
  }

  flush(): void {
    this.out.push(...this.late.splice(0));
  }

  /** Does a method of the client. @param chance what the broker makes up its mind by */
  take(octets: Buffer, chance: number): void {
    const id = `${octets.readUInt16BE(7)}.${octets.readUInt16BE(9)}`;
    const at = 11;
    const short = (from: number): string => octets.toString('latin1', from + 1, from + 1 + octets[from]!);
    switch (id) {
      case '50.10': {
        const name = short(at + 2);
        const flags = octets[at + 3 + name.length]!;
        if ((flags & 1) !== 0 && name === '') throw new Error('passive declare without a name');
        this.declared = name === '' ? `amq.gen-${++made}` : name;
        const args = Buffer.concat([shortstr(this.declared), Buffer.alloc(8)]);
        if ((flags & 16) === 0) this.out.push(method(1, 50, 11, args));
        return;
      }
      case '50.30':
        this.out.push(method(1, 50, 31, Buffer.alloc(4)));
        return;
      case '60.10':
        if ((octets[at + 6]! & 1) === 0) this.prefetch = octets.readUInt16BE(at + 4);
        else this.channelPrefetch = octets.readUInt16BE(at + 4);
        this.out.push(method(1, 60, 11));
        return;
      case '60.20': {
        const queue = short(at + 2);
        const tagAt = at + 3 + queue.length;
        const tag = short(tagAt) || `amq.ctag-${++made}`;
        const flagsAt = tagAt + 1 + octets[tagAt]!;
        const flags = octets[flagsAt]!;
        if (this.consumers.has(tag)) throw new Error(`530 attempt to reuse consumer tag '${tag}'`);
        if (queue === '' && this.declared === '') throw new Error('404 no previously declared queue');
        this.consumers.set(tag, {
          queue: queue || this.declared,
          noAck: (flags & 2) !== 0,
          prefetch: this.prefetch,
          flags: flags & ~8,
          table: octets.toString('hex', flagsAt + 1, octets.length - 1),
        });
        if ((flags & 8) === 0) this.late.push(method(1, 60, 21, shortstr(tag)));
        return;
      }
      case '60.30': {
        const tag = short(at);
        this.consumers.delete(tag);
        if ((octets[at + 1 + tag.length]! & 1) === 0) this.late.push(method(1, 60, 31, shortstr(tag)));
        return;
      }
      case '60.40':
        if (this.mode === 'confirm') this.unconfirmed.add(++this.published);
        else if (this.mode === 'tx') this.transaction++;
        return;
      case '60.70': {
        if (chance % 3 === 0) {
          this.out.push(method(1, 60, 72, shortstr('')));
          return;
        }
        const tag = this.nextTag++;
        if ((octets.at(-2)! & 1) === 0) this.unacked.add(tag);
        const args = [tagArguments(tag, 0), shortstr(''), shortstr('q'), Buffer.alloc(4)];
        this.out.push(method(1, 60, 71, Buffer.concat(args)), ...content(chance % 4));
        return;
      }
      case '60.80':
      case '60.90':
      case '60.120':
        this.#settle(Number(octets.readBigUInt64BE(at)), id !== '60.90' && (octets[at + 8]! & 1) !== 0);
        return;
      case '60.110':
        this.unacked.clear();
        this.out.push(method(1, 60, 111));
        return;
      case '85.10':
        this.mode = 'confirm';
        if ((octets[at]! & 1) === 0) this.out.push(method(1, 85, 11));
        return;
      case '90.10':
        this.mode = 'tx';
        this.out.push(method(1, 90, 11));
        return;
      case '90.20':
      case '90.30':
        this.transaction = 0;
        this.out.push(method(1, 90, octets.readUInt16BE(9) + 1));
        return;
      default:
        throw new Error(`the model doesn't know ${id}`);
    }
  }

  #settle(tag: number, multiple: boolean): void {
    if (this.mode === 'tx') this.transaction++;
    this.settled.push({ tag, multiple });
    if (tag === 0) {
      this.unacked.clear();
      return;
    }
    if (!this.unacked.has(tag)) throw new Error(`406 unknown delivery tag ${tag}`);
    for (const one of this.unacked) if (one === tag || (multiple && one < tag)) this.unacked.delete(one);
  }

  /** Delivers to one of its consumers. @returns the consumer's tag and the delivery's, or undefined without one */
  deliver(chance: number, redelivered: boolean): { consumer: string; tag: number } | undefined {
    this.flush();
    const found = [...this.consumers][chance % Math.max(this.consumers.size, 1)];
    if (found === undefined) return undefined;
    const [consumer, { noAck }] = found;
    const tag = this.nextTag++;
    if (!noAck) this.unacked.add(tag);
    const args = [shortstr(consumer), tagArguments(tag, redelivered ? 1 : 0), shortstr(''), shortstr('q')];
    this.out.push(method(1, 60, 60, Buffer.concat(args)), ...content(chance % 3));
    return { consumer, tag };
  }

  /** Cancels one of its consumers, since its queue is gone. */
  cancel(chance: number): void {
    this.flush();
    const tag = [...this.consumers.keys()][chance % Math.max(this.consumers.size, 1)];
    if (tag === undefined) return;
    this.consumers.delete(tag);
    this.out.push(method(1, 60, 30, Buffer.concat([shortstr(tag), Buffer.of(1)])));
  }

  /** Returns a mandatory publish. */
  giveBack(): void {
    const args = [Buffer.of(312 >> 8, 312 & 255), shortstr('NO_ROUTE'), shortstr(''), shortstr('q')];
    this.out.push(method(1, 60, 50, Buffer.concat(args)), ...content(1));
  }

  /** Answers one publish, or all up to it. @returns the numbers answered */
  confirm(chance: number, multiple: boolean, ack: boolean): number[] {
    const number = [...this.unconfirmed][chance % Math.max(this.unconfirmed.size, 1)];
    if (number === undefined) return [];
    const answered = [...this.unconfirmed].filter((one) => one === number || (multiple && one < number));
    for (const one of answered) this.unconfirmed.delete(one);
    this.out.push(method(1, 60, ack ? 80 : 120, tagArguments(number, multiple ? 1 : 0)));
    return answered;
  }
}
