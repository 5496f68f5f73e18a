import assert from 'node:assert/strict';
import { ChannelState } from '../../proxy/pool/channel-state.ts';
import { basicConsume, method, queueDeclare } from './amqp-frames.ts';
import { basicCancel, basicPublish, basicGet, basicRecover, prefetch, queuePurge } from './amqp-methods.ts';
import { FRESH, ModelChannel } from './channel-model.ts';

/** The client's channel; the broker's is 1. */
const LOCAL = 7;

/** As the broker's own method. */
const BASIC_CANCEL = 0x003c_001e;

/** Something that happens; `chance` and `flag` decide how. */
export interface Op {
  readonly kind: string;
  readonly chance: number;
  readonly flag: boolean;
}

/** A delivery that the client has got. */
interface Given {
  readonly model: ModelChannel;
  readonly tag: number;
  readonly consumer: string | undefined;
  /** How often a consumer of that tag had been started. */
  readonly generation: number;
  readonly needsAck: boolean;
  acknowledged: boolean;
}

function tagged(id: number, tag: number, flags: number): Buffer {
  const args = Buffer.alloc(9);
  args.writeBigUInt64BE(BigInt(tag));
  args[8] = flags;
  return method(1, 60, id, args);
}

/** A client, its ChannelState, and channels at the broker one after the other, with frames on their way both ways. */
export class World {
  readonly resume: boolean;
  readonly state: ChannelState;
  model: ModelChannel;
  toBroker: Buffer[] = [];
  /** How often what was asked for by the test. */
  readonly seen = { reusable: 0, restored: 0, resumed: 0, swallowed: 0, nacked: 0, marked: 0, confirmed: 0 };

  #mode = 'none';
  #declared = false;
  #published = 0;
  /** The client's numbers: what has become of them. */
  readonly #answers = new Map<number, 'ack' | 'nack' | 'lost'>();
  /** Answered by the broker, and not heard yet: the client's numbers that it must hear. */
  readonly #due = new Map<number, 'ack' | 'nack'>();
  #before = 0;
  readonly #given = new Map<number, Given>();
  /** Consumers that the client knows of. */
  readonly #known = new Set<string>();
  readonly #marks = new Map<string, number>();
  readonly #generations = new Map<string, number>();
  #left = 0;

  constructor(resume: boolean, lastDelivery: number) {
    this.resume = resume;
    this.state = new ChannelState({ resume });
    this.state.follow(lastDelivery);
    this.model = new ModelChannel(lastDelivery + 1);
  }

  send(octets: Buffer): void {
    const id = octets.readUInt32BE(7);
    const amidst = Buffer.concat([Buffer.alloc(3, 0xa5), octets, Buffer.alloc(5, 0xa5)]);
    const end = 3 + octets.length;
    if (!this.state.outgoing(id, amidst, 3, end)) {
      this.seen.swallowed++;
      return;
    }
    this.state.sent(id, amidst, 3, end);
    this.toBroker.push(Buffer.from(amidst.subarray(3, end)));
  }

  run({ kind, chance, flag }: Op): void {
    const { state } = this;
    const queue = ['q1', 'q2', this.#declared ? '' : 'q1'][chance % 3]!;
    switch (kind) {
      case 'publish':
        this.#published += this.#mode === 'confirm' ? 1 : 0;
        this.send(basicPublish(1, 'q', '').subarray(0, 11 + 2 + 1 + 2 + 1 + 1));
        return;
      case 'declare':
        this.#declared = true;
        this.send(
          queueDeclare({ name: ['q1', 'q2', ''][chance % 3]!, flags: flag && chance % 5 === 0 ? 16 : 2 }),
        );
        return;
      case 'purge':
        this.send(queuePurge(1, 'q1'));
        return;
      case 'qos':
        this.send(prefetch(1, 1 + (chance % 5), flag));
        return;
      case 'confirm':
        if (this.#mode === 'tx') return;
        this.#mode = 'confirm';
        this.send(method(1, 85, 10, Buffer.of(flag ? 1 : 0)));
        return;
      case 'tx':
        if (this.#mode === 'confirm') return;
        if (this.#mode === 'none') this.send(method(1, 90, 10));
        else this.send(method(1, 90, flag ? 20 : 30));
        this.#mode = 'tx';
        return;
      case 'get':
        this.send(basicGet(1, 'q1', flag));
        return;
      case 'consume':
        this.#consume(chance, flag, queue);
        return;
      case 'cancel': {
        const tag = [...this.#known][chance % Math.max(this.#known.size, 1)];
        if (tag === undefined || !state.hasConsumer(tag)) return;
        this.#known.delete(tag);
        this.send(basicCancel(1, tag, { noWait: flag }));
        return;
      }
      case 'recover':
        this.send(basicRecover(1));
        this.#drain(chance);
        for (const given of this.#given.values()) given.acknowledged = true;
        return;
      case 'ack':
        this.#acknowledge(chance, flag);
        return;
      case 'broker':
        this.#work(chance);
        return;
      case 'hear':
        this.#hear();
        return;
      case 'deliver':
        this.model.deliver(chance, flag);
        return;
      case 'cancelled':
        this.model.cancel(chance);
        return;
      case 'confirmed': {
        const ack = chance % 4 !== 0;
        for (const one of this.model.confirm(chance, flag, ack))
          this.#due.set(one + this.#before, ack ? 'ack' : 'nack');
        return;
      }
      case 'late':
        this.model.flush();
        return;
      case 'settle':
        this.settle(chance);
        return;
      default:
        this.settle(chance * 7);
        this.lose(chance);
    }
  }

  #consume(chance: number, flag: boolean, queue: string): void {
    const tag = ['t1', 't2', 't3', ''][chance % 4]!;
    const noWait = tag !== '' && chance % 7 === 0;
    if (this.state.hasConsumer(tag)) return;
    this.#known.delete(tag);
    this.#marks.delete(tag);
    this.#generations.set(tag, (this.#generations.get(tag) ?? 0) + 1);
    if (noWait) this.#known.add(tag);
    const entries =
      chance % 2 === 0
        ? []
        : [{ key: Buffer.from('x-priority'), field: { tag: 'I', value: chance } as const }];
    this.send(basicConsume({ name: queue, tag, flags: (flag ? 2 : 0) | (noWait ? 8 : 0), entries }));
  }

  #acknowledge(chance: number, multiple: boolean): void {
    const open = [...this.#given].filter(([, given]) => given.needsAck && !given.acknowledged);
    const found = open[chance % Math.max(open.length, 1)];
    if (found === undefined) return;
    const [tag, { model }] = found;
    for (const [other, given] of open)
      if (other === tag || (multiple && other < tag)) given.acknowledged = true;
    const before = this.toBroker.length;
    const id = [80, 90, 120][chance % 3]!;
    this.send(tagged(id, tag, multiple && id !== 90 ? 1 : 0));
    if (multiple && id === 90) for (const [other, given] of open) if (other < tag) given.acknowledged = false;
    assert.deepEqual(this.toBroker.length - before, model === this.model ? 1 : 0);
    const sent = this.toBroker.at(-1);
    const number = model === this.model ? Number(sent!.readBigUInt64BE(11)) : this.#given.get(tag)!.tag;
    assert.deepEqual(number, this.#given.get(tag)!.tag);
  }

  #work(chance: number): void {
    const octets = this.toBroker.shift();
    if (octets === undefined) return;
    this.model.take(octets, chance);
    if (octets.readUInt32BE(7) === 0x003c_0028 && chance % 11 === 0) this.model.giveBack();
  }

  #hear(): void {
    const octets = this.model.out.shift();
    if (octets === undefined) return;
    const type = octets[0]!;
    const id = type === 1 ? octets.readUInt32BE(7) : 0;
    const raw = Buffer.from(octets);
    const amidst = Buffer.concat([Buffer.alloc(2, 0xa5), octets, Buffer.alloc(9, 0xa5)]);
    this.state.heard(type, id, amidst, 2, 2 + octets.length);
    assert.deepEqual(amidst.subarray(2 + octets.length), Buffer.alloc(9, 0xa5));
    const heard = amidst.subarray(2, 2 + octets.length);
    if (type !== 1) {
      this.#left--;
      assert.deepEqual(heard, raw);
    } else this.#hears(`${raw.readUInt16BE(7)}.${raw.readUInt16BE(9)}`, heard, raw);
    assert.deepEqual(this.state.midContent, this.#left > 0);
  }

  #contentFollows(): void {
    this.#left = this.model.out.findIndex((octets) => octets[0] === 1);
    if (this.#left < 0) this.#left = this.model.out.length;
  }

  #hears(id: string, heard: Buffer, raw: Buffer): void {
    if (id === '60.50' || id === '60.60' || id === '60.71') this.#contentFollows();
    if (id === '60.21') this.#known.add(heard.toString('latin1', 12, heard.length - 1));
    if (id === '60.60') {
      const at = 12 + heard[11]!;
      const consumer = heard.toString('latin1', 12, at);
      this.#gets(heard, raw, at, consumer);
      const marks = this.#marks.get(consumer) ?? 0;
      assert.deepEqual(heard[at + 8], marks > 0 ? 1 : raw[at + 8]);
      if (marks > 0) this.seen.marked++;
      this.#marks.set(consumer, Math.max(marks - 1, 0));
    }
    if (id === '60.71') this.#gets(heard, raw, 11, undefined);
    if (id === '60.80' || id === '60.120') this.#answered(heard, id === '60.80' ? 'ack' : 'nack');
  }

  #gets(heard: Buffer, raw: Buffer, at: number, consumer: string | undefined): void {
    const tag = Number(heard.readBigUInt64BE(at));
    const { model } = this;
    assert.equal(tag, Math.max(0, ...this.#given.keys()) + 1, 'a tag is skipped, or comes twice');
    const upstream = Number(raw.readBigUInt64BE(at));
    this.#given.set(tag, {
      model,
      tag: upstream,
      consumer,
      generation: this.#generations.get(consumer ?? '') ?? 0,
      needsAck: model.unacked.has(upstream),
      acknowledged: false,
    });
  }

  /** A confirm, as a client takes it that keeps what is answered out of order until it is due. */
  #answered(heard: Buffer, how: 'ack' | 'nack' | 'lost'): void {
    const number = Number(heard.readBigUInt64BE(11));
    const first = (heard[19]! & 1) === 0 ? number : this.#watermark + 1;
    for (let one = first; one <= number; one++) {
      // What RabbitMQ covers with multiple has been answered, or is by that.
      if (how !== 'lost' && this.#answers.has(one)) continue;
      assert.equal(this.#answers.has(one), false, `${one} is answered twice`);
      assert.deepEqual(this.#due.get(one) ?? 'lost', how);
      this.#due.delete(one);
      this.#answers.set(one, how);
      this.seen.confirmed++;
    }
  }

  get #watermark(): number {
    let number = 0;
    while (this.#answers.has(number + 1)) number++;
    return number;
  }

  #drain(chance: number): void {
    while (this.toBroker.length > 0) this.#work(chance);
    this.model.flush();
    while (this.model.out.length > 0) this.#hear();
  }

  /** All that is on its way comes, and what the state says of the channel holds. */
  settle(chance: number): void {
    if (this.state.isReusable) {
      this.seen.reusable++;
      const { lastDelivery } = this.state;
      this.#work(chance);
      while (this.toBroker.length > 0) this.#work(chance);
      const { configuration, unacked, nextTag, transaction, unconfirmed } = this.model;
      assert.deepEqual([configuration, unacked.size, transaction, unconfirmed.size], [FRESH, 0, 0, 0]);
      assert.deepEqual(nextTag, lastDelivery + 1);
    }
    if (chance % 3 === 0) return;
    this.#drain(chance);
    assert.deepEqual(this.state.isAsking, false);
    assert.deepEqual(this.state.hasConsumers || this.model.consumers.size === 0, true);
    assert.deepEqual(this.state.unconfirmed, this.model.unconfirmed.size);
  }

  lose(chance: number): void {
    const { state, model: old } = this;
    // What a broker took away and nobody heard of is there for the client.
    if (old.out.some((octets) => octets.readUInt32BE(7) === BASIC_CANCEL)) this.#drain(chance);
    const open = Array.from({ length: this.#published }, (_, i) => i + 1).filter(
      (one) => !this.#answers.has(one),
    );
    this.#due.clear(); // what the broker said and nobody heard
    const runs = open.filter((one, i) => open[i - 1] !== one - 1).length;
    assert.deepEqual(state.unconfirmed, open.length);
    const nacks = state.lost(LOCAL);
    assert.deepEqual(nacks.length, runs);
    for (const nack of nacks) {
      assert.deepEqual(nack[2], LOCAL);
      this.#answered(Buffer.from(nack), 'lost');
    }
    assert.deepEqual(
      open.every((one) => this.#answers.get(one) === 'lost'),
      true,
    );
    this.seen.nacked += open.length;
    const { isRestorable, isResumable } = state;
    assert.deepEqual(this.resume || !isResumable, true);
    // What was on its way to the broker: publishes and acknowledgements, where the channel can be made anew.
    for (const octets of this.toBroker.splice(0)) old.take(octets, chance);
    if (isRestorable) {
      assert.deepEqual([old.consumers.size, old.unacked.size, old.transaction], [0, 0, 0]);
      this.seen.restored++;
    } else if (isResumable) this.seen.resumed++;
    else {
      assert.throws(() => state.restore(1), /can't be made anew/);
      throw new Over();
    }
    this.#renew(old);
  }

  #renew(old: ModelChannel): void {
    for (const [tag] of old.consumers) {
      const generation = this.#generations.get(tag) ?? 0;
      const open = [...this.#given.values()].filter(
        (given) =>
          given.model === old &&
          given.consumer === tag &&
          // What an earlier consumer of the tag holds isn't counted for this one: it may be another queue's.
          given.generation === generation &&
          given.needsAck &&
          !given.acknowledged,
      );
      this.#marks.set(tag, (this.#marks.get(tag) ?? 0) + open.length);
    }
    this.model = new ModelChannel();
    this.#before = this.#published;
    const answers: number[] = [];
    for (const { frame, answer } of this.state.restore(1)) {
      this.model.take(Buffer.from(frame), 1);
      if (answer !== 0) answers.push(answer);
    }
    this.model.flush();
    const heard = this.model.out.splice(0).map((octets) => octets.readUInt32BE(7));
    assert.deepEqual(
      heard.toSorted((one, other) => one - other),
      answers.toSorted((one, other) => one - other),
    );
    assert.deepEqual(this.model.configuration, old.configuration);
  }
}

/** The client has been told: there is no more to see. */
export class Over extends Error {}
