import { setTimeout as sleep } from 'node:timers/promises';
import type { LoadFunctions } from './load-process.ts';
import { cpuOf, familyOf, pssOf, rssOf } from './proc.ts';
import type { Rabbit } from './rabbit.ts';
import type { Remote } from './remote.ts';
import type { SinkFunctions } from './sink-process.ts';
import type { Target } from './targets.ts';

// How each case is measured: the loader is turned to a target, does its work, and the target's CPU is read before and after.

/** What one run of a case has found; CPU and times in microseconds, memory in octets. */
export interface Figures {
  /** CPU of the target for each message or cycle. */
  readonly cpu?: number;
  /** Messages or cycles. */
  readonly perSecond?: number;
  /** p50 of the round trips. */
  readonly roundTrip?: number;
  readonly memory?: number;
  /** The same with what several processes share counted once among them (PSS). */
  readonly sharedMemory?: number;
  /** CPU of a real broker for each message. */
  readonly brokerCpu?: number;
}

/** Who is at both ends of a target. */
export interface Peers {
  readonly load: Remote<LoadFunctions>;
  readonly sink: Remote<SinkFunctions>;
  /** In the world `rabbit`. */
  readonly rabbit: Rabbit | undefined;
}

/** One run of a case. @param tls whether clients speak TLS */
export type Run = (peers: Peers, target: Target, count: number, tls: boolean) => Promise<Figures>;

/** What the ends of connections set off counts for those who made them; in milliseconds. */
const SETTLE = 200;

/** How long clients say nothing before memory is read, in milliseconds: collectors of garbage come a little later. */
const MEMORY_SETTLE = 10_000;

/** Clients that connect at the same time. */
const AT_ONCE = 20;

/** CPU of a target and all below it, in microseconds. */
function cpuOfTarget({ pid }: Target): number {
  return pid === undefined ? 0 : familyOf(pid).reduce((sum, one) => sum + cpuOf(one), 0);
}

/** Does the work, and says what it has cost for each of `count`. */
async function cost(target: Target, count: number, work: () => Promise<unknown>): Promise<Figures> {
  const before = cpuOfTarget(target);
  const start = performance.now();
  await work();
  const seconds = (performance.now() - start) / 1000;
  await sleep(SETTLE);
  const rate = { perSecond: count / seconds };
  return target.pid === undefined ? rate : { ...rate, cpu: (cpuOfTarget(target) - before) / count };
}

/** Turns the loader to the target. */
async function turnTo({ load }: Peers, target: Target, tls: boolean): Promise<void> {
  await load.call('turnTo', tls ? target.tlsPort! : target.port, tls);
}

/** Has so many messages published, by what `work` tells the loader. */
async function published({ sink }: Peers, count: number, work: () => Promise<unknown>): Promise<void> {
  const { published: before } = await sink.call('counts');
  await Promise.all([sink.call('hasPublished', before + count), work()]);
}

/** Publishes of one client, as fast as they are taken. */
export function publishing(size: number): Run {
  return async (peers, target, count, tls) => {
    await turnTo(peers, target, tls);
    await peers.load.call('open', 1);
    const work = () => published(peers, count, () => peers.load.call('publish', count, size));
    const figures = await cost(target, count, work);
    await peers.load.call('close');
    return figures;
  };
}

/** Deliveries to one client, as fast as it takes them. */
export function delivering(size: number): Run {
  return async (peers, target, count, tls) => {
    await turnTo(peers, target, tls);
    await peers.load.call('open', 1);
    await peers.load.call('consume', count, size);
    const work = () => Promise.all([peers.load.call('consumed'), peers.sink.call('deliver', count, size)]);
    const figures = await cost(target, count, work);
    await peers.load.call('close');
    return figures;
  };
}

/** Small messages by clients that are there: one after the other, or all at once. */
export function small(clients: number, how: 'paced' | 'bursts'): Run {
  return async (peers, target, count, tls) => {
    await turnTo(peers, target, tls);
    await peers.load.call('open', clients);
    const messages = how === 'paced' ? count : count * clients;
    const work = () => published(peers, messages, () => peers.load.call(how, count));
    const figures = await cost(target, messages, work);
    await peers.load.call('close');
    return figures;
  };
}

/** Clients that connect, publish and close. */
export function cycling(confirm: boolean): Run {
  return async (peers, target, count, tls) => {
    await turnTo(peers, target, tls);
    const work = () => published(peers, count, () => peers.load.call('cycles', count, AT_ONCE, confirm));
    return cost(target, count, work);
  };
}

/** One client that waits for each confirm. */
export const roundTrips: Run = async (peers, target, count, tls) => {
  await turnTo(peers, target, tls);
  await peers.load.call('open', 1);
  const roundTrip = await peers.load.call('roundTrips', count);
  await peers.load.call('close');
  return { roundTrip };
};

/** Clients that are logged in and say nothing. */
export const memory: Run = async (peers, target, count, tls) => {
  if (target.pid === undefined) return {};
  await turnTo(peers, target, tls);
  if (count > 0) await peers.load.call('open', count);
  await sleep(MEMORY_SETTLE);
  const family = familyOf(target.pid);
  const sum = (of: (pid: number) => number): number => family.reduce((octets, pid) => octets + of(pid), 0);
  const found = { memory: sum(rssOf), sharedMemory: sum(pssOf) };
  await peers.load.call('close');
  return found;
};

/** Does the work in front of a RabbitMQ, and says what it has cost that, too. */
async function costOfBoth(
  rabbit: Rabbit,
  target: Target,
  count: number,
  work: () => Promise<unknown>,
): Promise<Figures> {
  const before = cpuOf(rabbit.pid);
  const figures = await cost(target, count, work);
  const brokerCpu = (cpuOf(rabbit.pid) - before) / count;
  await rabbit.purge();
  return { ...figures, brokerCpu };
}

/** Publishes of one client to a RabbitMQ's quorum queue, each confirmed. */
export function quorum(size: number): Run {
  return async (peers, target, count, tls) => {
    await turnTo(peers, target, tls);
    await peers.load.call('open', 1);
    const work = () => peers.load.call('publishConfirmed', count, size);
    const figures = await costOfBoth(peers.rabbit!, target, count, work);
    await peers.load.call('close');
    return figures;
  };
}

/** Clients that connect to a RabbitMQ, publish to its quorum queue, wait for the confirm and close. */
export const quorumCycling: Run = async (peers, target, count, tls) => {
  await turnTo(peers, target, tls);
  const work = () => peers.load.call('cycles', count, AT_ONCE, true);
  return costOfBoth(peers.rabbit!, target, count, work);
};
