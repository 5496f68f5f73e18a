import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Bundles,
  type Mint,
  type PlanSettings,
  type SecretStep,
  change,
  dueAt,
  plan,
  trusted,
} from '../../../webhook/cert-plan.ts';
import { type Authority, type CertState, EMPTY, type Leaf } from '../../../webhook/cert-state.ts';

const NAMES = ['webhook.svc'];
const LEAF = 1000;
const CA = 2000;
const SETTLE = 50;
const NOW = 100_000;

function settings(now = NOW): PlanSettings {
  return { now, settleMs: SETTLE, leafMs: LEAF, dnsNames: NAMES };
}

/** A CA that was made so long ago. */
function authority(cert: string, age: number, key: string | undefined = 'key'): Authority {
  return { cert, key, from: NOW - age, to: NOW - age + CA };
}

function leaf(age: number, dnsNames = NAMES): Leaf {
  return { cert: 'leaf', key: 'key', from: NOW - age, to: NOW - age + LEAF, dnsNames };
}

/** Two registrations, the first with two webhooks, that all trust the same. */
function bundles(...list: string[]): Bundles[] {
  return [
    { id: 'mutating', trusted: [list, list] },
    { id: 'validating', trusted: [list] },
  ];
}

/** Names instead of certificates; `issuer` says which CA made which leaf. */
function createMint(): Mint & { issuer: Map<string, string> } {
  let made = 0;
  const issuer = new Map<string, string>();
  return {
    issuer,
    ca: async (now) => ({ cert: `ca-${++made}`, key: 'key', from: now, to: now + CA }),
    async leaf(ca, dnsNames, now) {
      const cert = `leaf-${++made}`;
      issuer.set(cert, ca.cert);
      return { cert, key: 'key', from: now, to: Math.min(now + LEAF, ca.to), dnsNames };
    },
  };
}

const young = authority('old', 100);
const due = authority('old', 1500);
const next = authority('new', 60);

function steps(state: Partial<CertState>, seen: Bundles[] | undefined): string[] {
  return plan({ ...EMPTY, ...state }, seen, settings()).map((step) =>
    step.do === 'publish' ? `publish ${step.id}: ${step.bundle.join(' ')}` : step.do,
  );
}

describe('what is done about certificates', () => {
  const serving = { ca: young, leaf: leaf(100) };
  const rotating = { ca: due, leaf: leaf(100), next };
  it.each<[string, Partial<CertState>, Bundles[] | undefined, string[]]>([
    ['nothing is stored', {}, bundles(), ['begin']],
    ['nothing is stored and nothing registered', {}, [], ['begin']],
    ['all is well', serving, bundles('old'), []],
    ['there is no registration', serving, [], []],
    ['the registrations cannot be read', serving, undefined, []],
    ['the caBundles are empty', serving, bundles(), ['publish mutating: old', 'publish validating: old']],
    [
      'one webhook of one registration has no caBundle',
      serving,
      [
        { id: 'mutating', trusted: [['old'], []] },
        { id: 'validating', trusted: [['old']] },
      ],
      ['publish mutating: old'],
    ],
    [
      'somebody added a CA to a caBundle',
      serving,
      [{ id: 'mutating', trusted: [['old', 'foreign']] }],
      ['publish mutating: old'],
    ],
    [
      'the certificate is at two thirds of its life',
      { ca: young, leaf: leaf(667) },
      bundles('old'),
      ['renew'],
    ],
    ['the certificate is not there yet', { ca: young, leaf: leaf(666) }, bundles('old'), []],
    ['the certificate has expired', { ca: young, leaf: leaf(1000) }, bundles('old'), ['renew']],
    ['the certificate is gone', { ca: young }, bundles('old'), ['renew']],
    ['the certificate lacks a name', { ca: young, leaf: leaf(10, ['other']) }, bundles('old'), ['renew']],
    [
      'the certificate has more names than it needs',
      { ca: young, leaf: leaf(10, [...NAMES, 'other']) },
      bundles('old'),
      [],
    ],
    ['the CA is at two thirds of its life', { ca: due, leaf: leaf(100) }, bundles('old'), ['prepare']],
    [
      "the CA's key is gone",
      { ca: { ...young, key: undefined }, leaf: leaf(10) },
      bundles('old'),
      ['prepare'],
    ],
    [
      'the CA to come has no key',
      { ...rotating, next: { ...next, key: undefined } },
      bundles('old', 'new'),
      ['prepare'],
    ],
    [
      'the CA to come is not in the caBundles',
      rotating,
      bundles('old'),
      ['publish mutating: old new', 'publish validating: old new'],
    ],
    [
      'the CA to come is in one caBundle of two',
      rotating,
      [
        { id: 'mutating', trusted: [['old', 'new']] },
        { id: 'validating', trusted: [['old']] },
      ],
      ['publish validating: old new'],
    ],
    ['the CA to come is in every caBundle', rotating, bundles('new', 'old'), ['note']],
    ['it has been there for a moment', { ...rotating, nextPublished: NOW - 49 }, bundles('old', 'new'), []],
    [
      'it has been there for long',
      { ...rotating, nextPublished: NOW - 50 },
      bundles('old', 'new'),
      ['promote'],
    ],
    [
      'it was noted by a clock that is far ahead',
      { ...rotating, nextPublished: NOW + 51 },
      bundles('old', 'new'),
      ['note'],
    ],
    [
      'it has been there for long, but the registrations cannot be read now',
      { ...rotating, nextPublished: NOW - 50 },
      undefined,
      [],
    ],
    [
      'it was there and somebody took it out of one',
      { ...rotating, nextPublished: NOW - 50 },
      [
        { id: 'mutating', trusted: [['old', 'new']] },
        { id: 'validating', trusted: [[]] },
      ],
      ['retract', 'publish validating: old new'],
    ],
    [
      'the certificate has expired and the CA cannot make another, but the one to come can',
      { ...rotating, ca: { ...due, key: undefined }, leaf: leaf(1000) },
      bundles('old'),
      ['promote', 'publish mutating: old new', 'publish validating: old new'],
    ],
    [
      'the certificate has expired and no CA can make another',
      { ca: { ...due, key: undefined }, leaf: leaf(1000) },
      bundles('old'),
      ['begin'],
    ],
    [
      'a CA of before is still needed',
      { ...serving, previous: [due], previousUntil: NOW + 1 },
      [{ id: 'mutating', trusted: [['old']] }],
      [],
    ],
    [
      'the last certificate of a CA of before has ended',
      { ...serving, previous: [authority('before', 1500)], previousUntil: NOW },
      bundles('old', 'before'),
      ['retire'],
    ],
    [
      'a CA of before has ended itself',
      { ...serving, previous: [authority('before', 2000)], previousUntil: NOW + 500 },
      bundles('old'),
      ['retire'],
    ],
  ])('%s', (_name, state, seen, expected) => {
    expect(steps(state, seen)).toEqual(expected);
  });

  it('renews at two thirds of a life, whatever its length', () => {
    expect(dueAt({ from: 300, to: 600 })).toBe(500);
  });
});

describe('what a step makes of the Secret', () => {
  it('keeps names that another version of the webhook needs, until the certificate is due', async () => {
    const mint = createMint();
    const state = { ...EMPTY, ca: young, leaf: leaf(10, ['other']) };
    const both = await change('renew', state, mint, settings());
    expect(both.leaf!.dnsNames).toEqual([...NAMES, 'other']);
    const later = await change('renew', both, mint, settings());
    expect(later.leaf!.dnsNames).toEqual(NAMES);
  });

  it('remembers the CAs of a Secret that is gone by the caBundles, for as long as replicas may need them', async () => {
    const state = await change('begin', EMPTY, createMint(), settings(), [young, authority('over', 2000)]);
    expect(state.previous.map(({ cert, key }) => [cert, key])).toEqual([['old', undefined]]);
    expect(state.previousUntil).toBe(NOW + 10 * SETTLE);
    expect(trusted(state, NOW)).toEqual(['ca-1', 'old']);
  });

  it('keeps the old CA until the last certificate by it has ended, and never its key', async () => {
    const state = { ...EMPTY, ca: due, leaf: leaf(400), next, nextPublished: NOW - 50 };
    const after = await change('promote', state, createMint(), settings());
    expect(after.ca).toBe(next);
    expect(after.next).toBeUndefined();
    expect(after.previous).toEqual([{ cert: 'old', from: due.from, to: due.to }]);
    expect(after.previousUntil).toBe(NOW + 600);
  });
});

/** Every combination of what can be in the Secret and in the caBundles. */
function* everyState(): Generator<{ state: CertState; seen: Bundles[] | undefined }> {
  const keyless = (one: Authority): Authority => ({ ...one, key: undefined });
  const over = authority('old', 2001);
  const nextOnes = [undefined, next, keyless(next), authority('new', 1400), authority('new', 2001)];
  const previousOnes = [
    [],
    [authority('before', 1800)],
    [authority('before', 2500)],
    [authority('before', 1800), authority('before2', 2500)],
  ];
  const lists = [[], ['old'], ['new'], ['old', 'new'], ['foreign'], ['old', 'new', 'before', 'foreign']];
  const seens = [
    undefined,
    [],
    ...lists.map((list) => bundles(...list)),
    [{ id: 'mutating', trusted: [['old', 'new'], []] }],
  ];
  for (const ca of [undefined, young, due, keyless(young), keyless(due), over])
    for (const own of [undefined, leaf(10), leaf(700), leaf(1001), leaf(10, ['other'])])
      for (const to of nextOnes)
        for (const nextPublished of [undefined, NOW - 500, NOW - 10, NOW + 5000])
          for (const previous of previousOnes)
            for (const previousUntil of [undefined, NOW - 1, NOW + 100])
              for (const seen of seens)
                yield {
                  // A certificate without its CA is none, as readState() has it.
                  state: { ca, leaf: ca && own, next: to, nextPublished, previous, previousUntil },
                  seen,
                };
}

describe('from every state there is', () => {
  it('a few steps lead to a certificate that every caBundle trusts, and then there is nothing to do', async () => {
    let count = 0;
    const made: Partial<Record<SecretStep | 'publish', number>> = {};
    for (const { state: first, seen } of everyState()) {
      count++;
      let state = first;
      let now = NOW;
      let world = seen;
      const mint = createMint();
      for (let round = 0; ; round++) {
        const todo = plan(state, world, settings(now));
        const [step] = todo;
        if (step === undefined && now > NOW + SETTLE) break;
        if (round > 14) throw new Error(`no end: ${JSON.stringify({ first, seen, state, world })}`);
        // Where nothing is to be done, a wait may be under way.
        if (step === undefined) now += SETTLE + 1;
        else if (step.do === 'publish') {
          const { id, bundle } = step;
          world = world!.map((one) => (one.id === id ? { id, trusted: one.trusted.map(() => bundle) } : one));
        } else {
          if (step.do === 'promote') {
            const isOver = state.leaf === undefined || state.leaf.to <= now || state.ca!.to <= now;
            const isTrusted = world?.every(
              (one) => one.trusted.every((list) => list.includes('new')) || !isNew(state),
            );
            if (!isOver && (isTrusted !== true || now < state.nextPublished! + SETTLE)) {
              throw new Error(`promoted too early: ${JSON.stringify({ first, seen })}`);
            }
          }
          state = await change(step.do, state, mint, settings(now));
        }
        if (step !== undefined) made[step.do] = (made[step.do] ?? 0) + 1;
      }
      // A CA without a key can be replaced only where the caBundles can be read.
      const isStuck = world === undefined && state.ca?.key === undefined;
      const isGood =
        state.leaf !== undefined &&
        state.leaf.to > now &&
        (isStuck || NAMES.every((name) => state.leaf!.dnsNames.includes(name))) &&
        (world ?? []).every((one) => one.trusted.every((list) => list.includes(state.ca!.cert)));
      if (!isGood) throw new Error(`no good end: ${JSON.stringify({ first, seen, state, world })}`);
    }
    expect(count).toBe(6 * 5 * 5 * 4 * 4 * 3 * 9);
    expect(Object.keys(made).toSorted()).toEqual(
      ['begin', 'note', 'prepare', 'promote', 'publish', 'renew', 'retire', 'retract'].toSorted(),
    );
  }, 60_000);
});

function isNew({ next }: CertState): boolean {
  return next?.cert === 'new';
}

/** One write of one object: with a version, so that it fails for whoever has read another one. */
interface Versioned<T> {
  version: number;
  value: T;
}

interface Replica {
  bundles?: Versioned<readonly string[]>[];
  secret?: Versioned<CertState>;
  held?: Leaf;
}

type Move = { readonly replica: number; readonly do: 'look' | 'read' | 'act' | 'crash' };

/** Replicas of the webhook, two registrations, and API servers that see each caBundle after a while. */
class World {
  now = NOW;
  readonly lag = SETTLE - 5;
  readonly mint = createMint();
  readonly replicas: Replica[] = [{}, {}, {}];
  secret: Versioned<CertState> = { version: 0, value: EMPTY };
  bundles: Versioned<readonly string[]>[] = [
    { version: 0, value: [] },
    { version: 0, value: [] },
  ];
  /** What each registration's caBundle was, and since when. */
  readonly history: { at: number; index: number; value: readonly string[] }[] = [];
  readonly done = new Set<string>();

  async move({ replica, do: what }: Move): Promise<void> {
    const one = this.replicas[replica]!;
    if (what === 'crash') this.replicas[replica] = {};
    else if (what === 'look') {
      one.bundles = [...this.bundles];
      delete one.secret;
    } else if (what === 'read' && one.bundles !== undefined) {
      one.secret = this.secret;
      const { leaf } = this.secret.value;
      if (leaf !== undefined && leaf.to > this.now) one.held = leaf;
    } else if (what === 'act') await this.act(one);
    this.check();
  }

  async act(one: Replica): Promise<void> {
    const { secret, bundles: seen } = one;
    if (secret === undefined || seen === undefined) return;
    delete one.bundles;
    delete one.secret;
    const view = seen.map(({ value }, index) => ({ id: String(index), trusted: [value] }));
    for (const step of plan(secret.value, view, settings(this.now))) {
      if (step.do === 'publish') {
        const index = Number(step.id);
        if (this.bundles[index]!.version !== seen[index]!.version) return;
        this.bundles[index] = { version: this.bundles[index]!.version + 1, value: step.bundle };
        this.history.push({ at: this.now, index, value: step.bundle });
        this.done.add('publish');
      } else {
        const value = await change(step.do, secret.value, this.mint, settings(this.now));
        if (this.secret.version === secret.version) {
          this.secret = { version: secret.version + 1, value };
          this.done.add(step.do);
        }
        return;
      }
    }
  }

  async pass(replica: number): Promise<void> {
    for (let round = 0; round < 8; round++) {
      for (const what of ['look', 'read', 'act'] as const) await this.move({ replica, do: what });
    }
  }

  /** Whatever a replica serves with is trusted by each API server, however far behind it is. */
  check(): void {
    // At an installation there is a moment before anything was published.
    if (this.history.length < 2) return;
    for (const { held } of this.replicas) {
      if (held === undefined || held.to <= this.now) continue;
      const issuer = this.mint.issuer.get(held.cert)!;
      for (const index of [0, 1]) {
        const own = this.history.filter((entry) => entry.index === index);
        const visible = own.filter((_, at) => (own[at + 1]?.at ?? Infinity) >= this.now - this.lag);
        const first = own[0]!;
        for (const { value } of visible) {
          if (this.now >= first.at && !value.includes(issuer))
            throw new Error(
              `at ${this.now}: ${held.cert} by ${issuer} is served, trusted: ${value.join(' ')}`,
            );
        }
      }
    }
  }
}

describe('replicas that share a Secret', () => {
  const move = fc.record({
    replica: fc.nat({ max: 2 }),
    do: fc.constantFrom<Move['do']>('look', 'read', 'act', 'look', 'read', 'act', 'crash'),
  });
  const tick = fc.record({
    advance: fc.integer({ min: 1, max: 40 }),
    moves: fc.array(move, { maxLength: 8 }),
    worker: fc.nat({ max: 2 }),
  });

  it('never serve what is not trusted, over rotations with races, crashes and replicas that sleep', async () => {
    const done = new Set<string>();
    await fc.assert(
      fc.asyncProperty(fc.array(tick, { minLength: 100, maxLength: 300 }), async (ticks) => {
        const world = new World();
        for (const { advance, moves, worker } of ticks) {
          world.now += advance;
          for (const one of moves) await world.move(one);
          await world.pass(worker);
          expect(world.secret.value.leaf!.to).toBeGreaterThan(world.now);
        }
        for (const step of world.done) done.add(step);
      }),
      { numRuns: 60 },
    );
    // Who has looked before the last write may think that somebody took a CA out: that only costs time.
    done.delete('retract');
    expect([...done].toSorted()).toEqual([
      'begin',
      'note',
      'prepare',
      'promote',
      'publish',
      'renew',
      'retire',
    ]);
  }, 60_000);
});
