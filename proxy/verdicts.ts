import { formatVersion, parseVersion } from './version.ts';
import { USAGES, type Usage } from './usage.ts';

/**
 * What becomes of a usage on a broker of RabbitMQ 4 that the client talks to directly, without the proxy.
 * `breaks` it is refused · `changes` it is taken, and means something else · `fine` as on 3.x.
 */
export type Effect = 'breaks' | 'changes' | 'fine';

/**
 * How a verdict is known: `measured` on a broker of that version · `documented` in RabbitMQ's release notes or source ·
 * `inferred` from the versions before and after it.
 */
export type Source = 'measured' | 'documented' | 'inferred';

export interface Verdict {
  readonly effect: Effect;
  /** What happens there, with the broker's words where it refuses. */
  readonly what: string;
  readonly source: Source;
}

/** The versions that there are verdicts for, oldest first. */
export const TARGETS = ['4.0', '4.1', '4.2', '4.3'] as const;

export type Target = (typeof TARGETS)[number];

/** Those that the verdicts were measured on: 4.0.5 and 4.3.6, with upstream's defaults. */
const MEASURED: ReadonlySet<Target> = new Set(['4.0', '4.3']);

type Finding = readonly [effect: Effect, what: string];

interface Row {
  /** What the client does, as the end of a sentence. */
  readonly title: string;
  /** From which version on what happens: each until the next one given. */
  readonly since: { readonly '4.0': Finding } & Partial<Record<Target, Finding>>;
  /** How it is known of the versions that were not measured. */
  readonly between: Exclude<Source, 'measured'>;
  /** What to change in the client, whatever its library. */
  readonly fix: string;
}

const NOT_MIRRORED =
  'classic queues have one copy: without the mirrors of 3.x it is out of reach while its node is down';

const ROWS: Readonly<Record<Usage, Row>> = {
  'transient-queue': {
    title: 'declares a queue that is neither durable nor exclusive',
    since: {
      '4.0': ['changes', `accepted as deprecated, and lost with its node: ${NOT_MIRRORED}`],
      '4.3': [
        'breaks',
        'the connection is closed: 541 INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated',
      ],
    },
    between: 'documented',
    fix: 'declare it durable with x-queue-type=quorum (and x-expires where nobody deletes it), or exclusive where one connection alone uses it',
  },
  'transient-queue-server-named': {
    title: 'declares a queue without a name that is neither durable nor exclusive',
    since: {
      '4.0': ['changes', `accepted as deprecated, and lost with its node: ${NOT_MIRRORED}`],
      '4.3': [
        'breaks',
        'the connection is closed: 541 INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated',
      ],
    },
    between: 'documented',
    fix: 'declare it exclusive; where other connections use it, give it a name of its own, durable with x-queue-type=quorum and x-expires (quorum queues cannot be named by the broker)',
  },
  'auto-delete-queue': {
    title: 'declares an auto-delete queue',
    since: { '4.0': ['changes', `it goes with its last consumer as ever, but ${NOT_MIRRORED}`] },
    between: 'documented',
    fix: 'where it has to outlive its node: durable, not auto-delete, x-queue-type=quorum and x-expires (quorum queues refuse auto-delete: 406); else keep it, but durable',
  },
  'durable-classic-queue': {
    title: 'declares a durable classic queue',
    since: {
      '4.0': [
        'changes',
        `${NOT_MIRRORED} (declares and consumers wait about 70 s, then 404 NOT_FOUND - failed to perform operation on queue)`,
      ],
    },
    between: 'documented',
    fix: 'declare it with x-queue-type=quorum; a classic queue of that name has to be deleted first (406 inequivalent arg)',
  },
  'exclusive-named-queue': {
    title: 'declares an exclusive queue by a name of its own',
    since: {
      '4.0': [
        'changes',
        'after a lost connection the name is free a little later: the next declare may get 405 RESOURCE_LOCKED',
      ],
      '4.3': [
        'changes',
        "also after a connection.close the name is free a little later, and not at all while the owner's node is down: the next declare may get 405 RESOURCE_LOCKED",
      ],
    },
    between: 'inferred',
    fix: 'let the broker name it (an empty name), or try again after 405',
  },
  'quorum-refused': {
    title: 'declares a quorum queue with what quorum queues refuse',
    since: {
      '4.0': [
        'breaks',
        'the channel is closed, as on 3.x: 406 PRECONDITION_FAILED - invalid property (transient, auto-delete, exclusive) or invalid arg (x-max-priority, x-queue-mode, x-queue-version, x-queue-master-locator), or a queue without a name',
      ],
      '4.3': [
        'breaks',
        'the channel is closed: 406 PRECONDITION_FAILED - invalid property or invalid arg; the whole connection (541) where it is transient',
      ],
    },
    between: 'inferred',
    fix: 'declare quorum queues durable, named, neither auto-delete nor exclusive, and without those arguments',
  },
  'quorum-without-delivery-limit': {
    title: 'declares a quorum queue without a delivery limit',
    since: {
      '4.0': [
        'changes',
        'a message that keeps coming back is delivered 21 times, then dropped or dead-lettered; on 3.x it is delivered for ever',
      ],
      '4.3': [
        'changes',
        'a message that keeps coming back, by basic.reject or lost consumers, is delivered 21 times, then dropped or dead-lettered; on 3.x it is delivered for ever',
      ],
    },
    between: 'documented',
    fix: 'set delivery-limit by a policy (-1 for none, on 4.x only), or a dead-letter exchange; nothing where consumers do not requeue',
  },
  'negative-delivery-limit': {
    title: 'declares a quorum queue with a negative x-delivery-limit',
    since: { '4.0': ['changes', 'no limit; 3.x drops a message the first time that it is requeued'] },
    between: 'inferred',
    fix: 'nothing, if no limit is what was meant',
  },
  'empty-queue-type': {
    title: 'declares a queue with an empty x-queue-type',
    since: {
      '4.0': [
        'breaks',
        "the channel is closed, as on 3.x: 406 PRECONDITION_FAILED - unsupported queue type ''",
      ],
      '4.3': ['fine', 'taken for the default type'],
    },
    between: 'inferred',
    fix: 'leave x-queue-type out, or name a type',
  },
  'queue-master-locator': {
    title: 'gives x-queue-master-locator',
    since: {
      '4.0': ['fine', 'accepted as deprecated'],
      '4.3': [
        'breaks',
        'the connection is closed: 541 INTERNAL_ERROR - Feature `queue_master_locator` is deprecated',
      ],
    },
    between: 'documented',
    fix: 'leave it out, or give x-queue-leader-locator (client-local or balanced)',
  },
  'queue-version-1': {
    title: 'gives x-queue-version=1',
    since: {
      '4.0': ['fine', 'accepted'],
      '4.3': ['breaks', "the channel is closed: 406 PRECONDITION_FAILED - unsupported queue version '1'"],
    },
    between: 'documented',
    fix: 'leave it out, or give 2',
  },
  'queue-mode': {
    title: 'gives x-queue-mode',
    since: {
      '4.0': [
        'fine',
        'accepted, and without effect since 3.12: every classic queue keeps its messages on disk',
      ],
      '4.3': [
        'changes',
        'accepted and without effect by 4.3.6; the release notes of 4.3.0 announce that it is refused',
      ],
    },
    between: 'documented',
    fix: 'leave it out',
  },
  'ha-policy-argument': {
    title: 'gives x-ha-policy',
    since: { '4.0': ['fine', 'ignored, as on 3.x'] },
    between: 'inferred',
    fix: 'leave it out: replicated queues have x-queue-type=quorum',
  },
  'max-priority': {
    title: 'gives x-max-priority',
    since: { '4.0': ['fine', 'classic queues take it as ever; a quorum queue would refuse it (406)'] },
    between: 'inferred',
    fix: 'before the queue becomes a quorum queue, leave it out: 4.0 has two levels there, 4.3 orders by priority by itself',
  },
  'overflow-reject-publish-dlx': {
    title: 'gives x-overflow=reject-publish-dlx',
    since: { '4.0': ['fine', 'as on 3.x: classic queues dead-letter, quorum queues take it for drop-head'] },
    between: 'inferred',
    fix: 'on a quorum queue give reject-publish, or messages are lost',
  },
  'consumer-timeout': {
    title: 'gives x-consumer-timeout on a quorum queue',
    since: {
      '4.0': ['fine', 'ignored, as on 3.x'],
      '4.3': [
        'changes',
        'it takes effect, and is compared when the queue is declared again (406 inequivalent arg)',
      ],
    },
    between: 'inferred',
    fix: 'have all its clients give the same number, or leave it out',
  },
  'consumer-timeout-refused': {
    title: 'gives x-consumer-timeout on a classic queue, or as no number',
    since: {
      '4.0': ['fine', 'ignored, as on 3.x'],
      '4.3': [
        'breaks',
        "the channel is closed: 406 PRECONDITION_FAILED - invalid arg 'x-consumer-timeout' (from 4.3.2 on for classic queues)",
      ],
    },
    between: 'inferred',
    fix: 'leave it out, or make the queue a quorum queue and the value a number of milliseconds',
  },
  'transient-exchange': {
    title: 'declares an exchange that is not durable',
    since: {
      '4.0': ['fine', 'gone after a restart of the broker, as on 3.x'],
      '4.2': [
        'changes',
        'with Khepri, the metadata store of new clusters from 4.2 on, it outlives a restart: it has to be deleted before it can be declared durable (406 inequivalent arg)',
      ],
      '4.3': [
        'changes',
        'it outlives a restart: it has to be deleted before it can be declared durable (406 inequivalent arg)',
      ],
    },
    between: 'documented',
    fix: 'declare it durable, in all clients that declare it',
  },
  'global-qos': {
    title: 'sets a prefetch for a whole channel (basic.qos global)',
    since: {
      '4.0': [
        'fine',
        'accepted as deprecated; a channel that then consumes from a quorum queue loses its connection, as on 3.x: 540 NOT_IMPLEMENTED - does not support global qos',
      ],
      '4.3': [
        'changes',
        'taken for a prefetch of each consumer: a channel with several gets more messages at once',
      ],
    },
    between: 'documented',
    fix: 'set global to false: a prefetch for each consumer',
  },
  'exclusive-consumer': {
    title: 'consumes exclusively',
    since: {
      '4.0': ['fine', 'as on 3.x: classic queues refuse a second consumer (403), quorum queues do not'],
    },
    between: 'inferred',
    fix: 'on a quorum queue declare x-single-active-consumer=true',
  },
  'cancel-on-ha-failover': {
    title: 'consumes with x-cancel-on-ha-failover',
    since: { '4.0': ['fine', 'ignored: there are no mirrors whose failover could be told'] },
    between: 'inferred',
    fix: 'leave it out',
  },
  'conditional-delete': {
    title: 'deletes a queue if it is unused or empty',
    since: {
      '4.0': [
        'fine',
        'as on 3.x: on a quorum queue the connection is closed (540 NOT_IMPLEMENTED), classic queues take it',
      ],
    },
    between: 'inferred',
    fix: 'on a quorum queue ask by a passive declare, and delete without conditions',
  },
  'small-frame-max': {
    title: 'asks for a frame_max below 8192',
    since: {
      '4.0': ['fine', 'accepted'],
      '4.1': ['breaks', 'the connection is closed in its handshake, without a frame that says why'],
    },
    between: 'documented',
    fix: 'let the broker choose (0 or 131072), or ask for 8192 at least',
  },
};

/** What a client does, as the end of a sentence that begins with the client. */
export function titleOf(usage: Usage): string {
  return ROWS[usage].title;
}

/** What to change in the client, whatever its library. */
export function fixOf(usage: Usage): string {
  return ROWS[usage].fix;
}

/** What becomes of a usage on a broker of that version. */
export function verdictOn(usage: Usage, target: Target): Verdict {
  const { since, between } = ROWS[usage];
  const reached = TARGETS.slice(0, TARGETS.indexOf(target) + 1);
  const [effect, what] = reached.reduce<Finding>((found, version) => since[version] ?? found, since['4.0']);
  return { effect, what, source: MEASURED.has(target) ? 'measured' : between };
}

/** The target for a text such as `4.3` or `4.3.6`; undefined for a version without verdicts. */
export function targetOf(text: string): Target | undefined {
  const version = parseVersion(text);
  return version === undefined ? undefined : TARGETS.find((target) => target === formatVersion(version));
}

/** The usages that some version of RabbitMQ 4 refuses: a client with one of them can't do without the proxy there. */
export const REFUSED: ReadonlySet<Usage> = new Set(
  USAGES.filter((usage) => TARGETS.some((target) => verdictOn(usage, target).effect === 'breaks')),
);
