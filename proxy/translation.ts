import { FRAME_HEADER_SIZE, METHOD } from '../amqp/constants.ts';
import {
  BASIC_CONSUME,
  channelOf,
  methodOf,
  QUEUE_DELETE,
  readBasicConsume,
  readQueueDeclare,
  readQueueDelete,
} from '../amqp/method.ts';
import { withShortstr } from '../amqp/splice.ts';
import { readBinding } from './binding.ts';
import { FollowUp } from './followup.ts';
import { latin1 } from './latin1.ts';
import type { Lookup } from './lookup.ts';
import type { Queues } from './queues.ts';
import { refuseConsume } from './rules/basic-consume.ts';
import { ruleFor } from './rules/index.ts';
import { declaresLasting, hasLostAutoDelete } from './rules/queue-declare.ts';
import type { Answer, RewrittenMethod, RuleContext, Settlement, Trial } from './rules/rule.ts';

/** Declares of a connection that are remembered as taken; beyond that, it begins anew. */
const ACCEPTED_MAX = 100;

/** Octets of a declare that is remembered: a client's memory in the proxy is bounded. */
const ACCEPTED_SIZE = 512;

export interface TranslationSettings {
  readonly rules: RuleContext;
  readonly virtualHost: string;
  readonly queues: Queues;
  /** undefined where the client leaves no channel for it. */
  readonly lookup: Lookup | undefined;
  /** Passes a frame on to the broker, behind all that was passed on before. */
  readonly send: (frame: Uint8Array) => void;
  /** Lets the client's stream go on that was held, with this frame in the place of the one that held it. */
  readonly release: (frame: Uint8Array) => void;
  readonly rewritten: (method: RewrittenMethod) => void;
  /** Something is used as it exists, which the broker's text says. */
  readonly existing: (method: RewrittenMethod, refusal: string) => void;
  /** An auto-delete queue was deleted behind its last consumer. */
  readonly deleted: () => void;
}

/** What the client's stream is held for. */
interface Held {
  readonly method: RewrittenMethod;
  readonly trial: Trial;
  readonly frame: Uint8Array;
  readonly edited: Uint8Array;
  /** Milliseconds of performance.now() at the first question. */
  readonly since: number;
}

/** The client's methods as the broker gets them, once the connection is open. */
export class Translation {
  readonly #settings: TranslationSettings;
  // Most connections need none of these, and there are thousands of connections.
  #follow: FollowUp | undefined;
  /** What the client gets for the broker's next channel.close, by channel. */
  #refusals: Map<number, Uint8Array> | undefined;
  /** The queue that was declared last on each channel, an octet a character: what an empty name means. */
  #declared: Map<number, string> | undefined;
  #accepted: Set<string> | undefined;
  /** A method that holds the client's stream and has not been asked about yet. */
  #held: Held | undefined;
  #retry: NodeJS.Timeout | undefined;

  constructor(settings: TranslationSettings) {
    this.#settings = settings;
  }

  /** Follows consumers from here on; undefined where the client leaves no channel for it. */
  #following(): FollowUp | undefined {
    const { lookup, queues, virtualHost, send, deleted } = this.#settings;
    if (lookup === undefined) return undefined;
    return (this.#follow ??= new FollowUp({ lookup, queues, virtualHost, send, deleted }));
  }

  /** Whether frames of this method of the client have to be shown. */
  wants(method: number): boolean {
    return (
      ruleFor(method) !== undefined ||
      (isBinding(method) && this.#settings.lookup !== undefined) ||
      ((method === METHOD.basicCancel || method === METHOD.channelClose) &&
        this.#follow?.followsEnds === true)
    );
  }

  /**
   * A frame of the client.
   * @returns what the broker gets; undefined holds the client's stream until the broker has been asked
   * @throws WireError 502 when it is malformed
   */
  translate(frame: Uint8Array, method: number): Uint8Array | undefined {
    const rule = ruleFor(method);
    if (rule === undefined) return isBinding(method) ? this.#binds(frame, method) : this.#ends(frame, method);
    const { rules, lookup, rewritten } = this.#settings;
    const named = this.#named(frame, method);
    const trial = rule.trial?.(named, rules);
    if (trial?.needed === true && lookup === undefined) return frame;
    const edited = rule.rewrite(named, rules);
    if (edited !== named) rewritten(rule.name);
    if (method === METHOD.basicConsume && this.#isKeptAway(named)) return this.#keepAway(named);
    const concerned = trial !== undefined && (trial.asks === 'always' || edited !== named);
    if (!concerned || lookup === undefined || (trial.remembered && this.#isAccepted(edited)))
      return this.#sent(named, edited);
    this.#held = { method: rule.name, trial, frame: named, edited, since: performance.now() };
    return undefined;
  }

  /**
   * Asks the broker what the client's stream is held for; to be called when all that came before has been passed on.
   * The answer lets the stream go on.
   */
  ask(): void {
    const held = this.#held;
    const { lookup } = this.#settings;
    if (held === undefined || lookup === undefined) return;
    this.#held = undefined;
    if (this.#follow?.unsettled === true) this.#follow.whenSettled(() => this.#askSettled(held, lookup));
    else this.#askSettled(held, lookup);
  }

  /** Asks when no other connection is about to delete the queue that is declared. */
  #askSettled(held: Held, lookup: Lookup): void {
    const queue = declaredQueue(held.edited);
    if (queue === undefined) this.#ask(held, lookup);
    else {
      const { queues, virtualHost } = this.#settings;
      queues.whenSettled(virtualHost, queue, () => this.#ask(held, lookup));
    }
  }

  #ask(held: Held, lookup: Lookup): void {
    const { virtualHost } = this.#settings;
    const { trial, frame, edited } = held;
    const tried = { frame, edited, virtualHost, waited: performance.now() - held.since };
    const settle = (answer: Answer): undefined => {
      if (answer.unanswered === true) {
        this.#settle(held, { send: trial.needed ? frame : edited });
        return;
      }
      if (answer.refusal === undefined && trial.remembered) this.#accept(edited);
      const settlement = trial.settle(tried, answer);
      if ('againIn' in settlement)
        this.#retry = setTimeout(() => this.#ask(held, lookup), settlement.againIn);
      else this.#settle(held, settlement);
    };
    lookup.ask({
      frame: trial.question(tried, lookup.channel),
      answer: (answer) => {
        const exists = answer.refusal === undefined && answer.unanswered === undefined;
        if (!exists || trial.compare === undefined) return settle(answer);
        return { frame: trial.compare(tried, lookup.channel), answer: settle };
      },
    });
  }

  #settle({ method, frame }: Held, { send, existing, refusal }: Settlement): void {
    if (existing !== undefined) this.#settings.existing(method, existing);
    if (refusal !== undefined) this.#refuses(channelOf(send), refusal);
    this.#settings.release(this.#sent(frame, send));
  }

  /** What is on its way to the broker in the place of the client's frame. @returns what is sent for it */
  #sent(frame: Uint8Array, send: Uint8Array): Uint8Array {
    const method = methodOf(send);
    if (method === METHOD.queueDeclare) this.#declares(frame, send);
    if (method === METHOD.queueDelete) this.#deletes(send);
    return method === METHOD.basicConsume ? this.#consumes(send) : send;
  }

  #declares(frame: Uint8Array, sent: Uint8Array): void {
    const { nameStart, nameEnd } = readQueueDeclare(sent);
    const channel = channelOf(sent);
    const queue = latin1(sent, nameStart, nameEnd);
    if (queue === '') this.#declared?.delete(channel);
    else (this.#declared ??= new Map()).set(channel, queue);
    const { queues, virtualHost } = this.#settings;
    if (hasLostAutoDelete(frame, sent)) queues.declaredAutoDelete(virtualHost, queue);
    else if (declaresLasting(frame)) queues.forget(virtualHost, queue);
  }

  #deletes(frame: Uint8Array): void {
    const { nameStart, nameEnd } = readQueueDelete(frame);
    const queue = latin1(frame, nameStart, nameEnd) || this.#declared?.get(channelOf(frame));
    if (queue !== undefined) this.#settings.queues.forget(this.#settings.virtualHost, queue);
  }

  #consumes(frame: Uint8Array): Uint8Array {
    if (this.#isKeptAway(frame)) return this.#keepAway(frame);
    const queue = this.#consumedQueue(frame);
    return queue === undefined ? frame : (this.#following()?.consumes(frame, queue) ?? frame);
  }

  /** The queue of a basic.consume frame, an octet a character. */
  #consumedQueue(frame: Uint8Array): string | undefined {
    const { nameStart, nameEnd } = readBasicConsume(frame);
    return latin1(frame, nameStart, nameEnd) || this.#declared?.get(channelOf(frame));
  }

  #isKeptAway(frame: Uint8Array): boolean {
    const queue = this.#consumedQueue(frame);
    return queue !== undefined && this.#following()?.isKeptAway(queue) === true;
  }

  /** @returns what is sent in the place of a basic.consume that is refused */
  #keepAway(frame: Uint8Array): Uint8Array {
    const { send, refusal } = refuseConsume(frame, this.#settings.virtualHost);
    this.#refuses(channelOf(frame), refusal);
    return send;
  }

  #refuses(channel: number, refusal: Uint8Array): void {
    this.#refusals ??= new Map();
    this.#refusals.set(channel, refusal);
  }

  /** A conditional queue.delete or an exclusive basic.consume of the queue that was declared last, with its name. */
  #named(frame: Uint8Array, method: number): Uint8Array {
    if (method !== METHOD.queueDelete && method !== METHOD.basicConsume) return frame;
    const { nameStart, nameEnd, flagsAt } =
      method === METHOD.queueDelete ? readQueueDelete(frame) : readBasicConsume(frame);
    const asked =
      method === METHOD.queueDelete ? QUEUE_DELETE.ifUnused | QUEUE_DELETE.ifEmpty : BASIC_CONSUME.exclusive;
    const queue = this.#declared?.get(channelOf(frame));
    if (nameStart !== nameEnd || (frame[flagsAt]! & asked) === 0 || queue === undefined) return frame;
    return withShortstr(frame, nameStart - 1, queue);
  }

  /** A queue.bind or queue.unbind. */
  #binds(frame: Uint8Array, method: number): Uint8Array {
    const binding = readBinding(frame, this.#declared?.get(channelOf(frame)));
    const { queues, virtualHost } = this.#settings;
    if (binding === undefined) return frame;
    if (method === METHOD.queueBind) queues.bound(virtualHost, binding);
    else queues.unbound(virtualHost, binding);
    return frame;
  }

  /** A basic.cancel or channel.close. */
  #ends(frame: Uint8Array, method: number): Uint8Array {
    if (this.#follow === undefined) return frame;
    return method === METHOD.basicCancel ? this.#follow.cancels(frame) : this.#follow.closes(frame);
  }

  /** Whether a method that the broker sends on one of the client's channels has to be shown. */
  wantsFromBroker(method: number, channel: number): boolean {
    if (method === METHOD.channelClose || method === METHOD.channelCloseOk) {
      if (this.#refusals?.has(channel) === true || this.#declared?.has(channel) === true) return true;
    }
    return this.#follow?.wants(method) === true;
  }

  /** Such a method. @returns what the client gets, empty for nothing */
  heard(frame: Uint8Array, method: number): Uint8Array {
    const channel = channelOf(frame);
    let shown = frame;
    if (method === METHOD.channelClose || method === METHOD.channelCloseOk) {
      this.#declared?.delete(channel);
      if (method === METHOD.channelClose) shown = this.#refusals?.get(channel) ?? frame;
      this.#refusals?.delete(channel);
    }
    const passed = this.#follow?.heard(frame, method) ?? frame;
    return passed === frame ? shown : passed;
  }

  /** Whether the client's connection can't be closed yet. */
  get detains(): boolean {
    return this.#follow?.detains === true;
  }

  /** The client goes. @param done called when the broker has been told all that has to come before */
  leave(done: () => void): void {
    clearTimeout(this.#retry);
    if (this.#follow === undefined) done();
    else this.#follow.leave(done);
  }

  /** The connection has ended. */
  ended(): void {
    clearTimeout(this.#retry);
    this.#settings.lookup?.end();
    this.#follow?.ended();
  }

  /**
   * Declares that the broker has taken once are taken again: a client that repeats itself isn't held for each. While a
   * queue may be about to be deleted behind its last consumer, its declare waits for that.
   */
  #isAccepted(edited: Uint8Array): boolean {
    const { lookup, queues, virtualHost } = this.#settings;
    const queue = declaredQueue(edited);
    if (lookup?.idle !== true || this.#follow?.unsettled === true) return false;
    if (queue !== undefined && queues.isEnding(virtualHost, queue)) return false;
    return this.#accepted?.has(fingerprint(edited)) === true;
  }

  #accept(edited: Uint8Array): void {
    if (edited.length > ACCEPTED_SIZE) return;
    this.#accepted ??= new Set();
    if (this.#accepted.size >= ACCEPTED_MAX) this.#accepted.clear();
    this.#accepted.add(fingerprint(edited));
  }
}

function isBinding(method: number): boolean {
  return method === METHOD.queueBind || method === METHOD.queueUnbind;
}

/** The queue that a frame declares, an octet a character; undefined where it is another method. */
function declaredQueue(frame: Uint8Array): string | undefined {
  if (methodOf(frame) !== METHOD.queueDeclare) return undefined;
  const { nameStart, nameEnd } = readQueueDeclare(frame);
  return latin1(frame, nameStart, nameEnd);
}

/** Equal for declares that are equal on whatever channel. */
function fingerprint(frame: Uint8Array): string {
  return latin1(frame, FRAME_HEADER_SIZE, frame.length);
}
