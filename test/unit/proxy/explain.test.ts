import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { plainDeclare, readDeclare } from '../../../proxy/declare.ts';
import { explain, type Explanation } from '../../../proxy/explain.ts';
import { explanationJson, explanationText } from '../../../proxy/explanation.ts';
import { MEANING } from '../../../proxy/meaning.ts';
import { DEFAULT_POLICY, type Policy } from '../../../proxy/policy/policy.ts';
import { RulePolicies } from '../../../proxy/policy/policies.ts';
import { parseRules } from '../../../proxy/policy/rules-file.ts';
import { MEANING_CHANGES } from '../../../proxy/rules/rule.ts';
import { NEWEST, parseVersion } from '../../../proxy/version.ts';

const DEFAULT = { name: 'default', where: 'built in' };

function explained(declare: object, broker = '4.3', policy: Policy = DEFAULT_POLICY): Explanation {
  return explain(readDeclare(JSON.stringify(declare)), policy, parseVersion(broker)!);
}

describe('an explanation', () => {
  it('says which rule decided, what was done and why, what changes, and what the broker gets', () => {
    const declare = {
      queue: 'q',
      auto_delete: true,
      arguments: { 'x-max-priority': 5, 'x-message-ttl': 60_000 },
    };
    expect(explained(declare)).toEqual({
      decided: { ...DEFAULT, what: 'action quorum' },
      isRewritten: true,
      steps: [
        expect.stringMatching(/^durable: /),
        expect.stringMatching(/^without arguments that quorum queues refuse/),
        expect.stringMatching(/^x-queue-type=quorum: /),
        expect.stringMatching(/^not auto-delete: /),
        expect.stringMatching(/^x-expires: /),
      ],
      changes: ['priority', 'delivery-limit', 'auto-delete'],
      sent: {
        method: 'queue.declare',
        values: {
          queue: 'q',
          passive: false,
          durable: true,
          exclusive: false,
          auto_delete: false,
          no_wait: false,
          arguments: { 'x-message-ttl': 60_000n, 'x-queue-type': 'quorum', 'x-expires': 1_800_000n },
        },
      },
      atRunTime: expect.stringContaining('a queue of that name exists in another form') as string,
    });
  });

  it('depends on the version of the broker', () => {
    const qos = { method: 'basic.qos', prefetch_count: 5, global: true };
    expect(explained(qos, '4.0')).toMatchObject({ isRewritten: true, changes: ['global-prefetch'] });
    expect(explained(qos, '4.3')).toMatchObject({
      isRewritten: false,
      changes: ['global-prefetch'],
      steps: [expect.stringMatching(/^left alone: 4\.3 takes/)],
    });
    const consume = { method: 'basic.consume', queue: 'q', arguments: { 'x-cancel-on-ha-failover': true } };
    expect(explained(consume, '3.10').sent.values['arguments']).toEqual({});
    expect(explained(consume, '4.0').isRewritten).toBe(false);
  });

  it.each<[what: string, declare: object, why: RegExp]>([
    ['a passive declare', { queue: 'q', passive: true }, /passive/],
    ['a passive exchange.declare', { method: 'exchange.declare', exchange: 'x', passive: true }, /passive/],
    ['a reserved name', { queue: 'amq.gen-x' }, /amq\./],
    ['a reserved exchange', { method: 'exchange.declare', exchange: 'amq.topic' }, /amq\./],
    ['the default exchange', { method: 'exchange.declare' }, /default exchange/],
    ['a stream', { queue: 'q', arguments: { 'x-queue-type': 'stream' } }, /stream/],
    ['an unknown type', { queue: 'q', arguments: { 'x-queue-type': 5 } }, /type that RabbitMQ doesn't know/],
    ['a quorum queue without a name', { arguments: { 'x-queue-type': 'quorum' } }, /without a name/],
    ['an exclusive queue', { queue: 'q', exclusive: true }, /exclusive/],
    ['a prefetch that is not global', { method: 'basic.qos', prefetch_count: 5 }, /global/],
    ['a delete of a queue without a name', { method: 'queue.delete', if_empty: true }, /named/],
  ])('says why nothing changes: %s', (_, declare, why) => {
    const { isRewritten, decided, steps, sent } = explained(declare);
    expect({ isRewritten, decided }).toEqual({ isRewritten: false, decided: undefined });
    expect(steps).toEqual([expect.stringMatching(why)]);
    expect(sent.values).toMatchObject(readDeclare(JSON.stringify(declare)).values);
  });

  it('says so where a rule leaves it alone, and where there is nothing to do', () => {
    const { rules } = parseRules('my.yaml', 'rules:\n- {name: mine, match: {queue: "a*"}, action: leave}');
    const policy = new RulePolicies(rules).for({ virtualHost: '/', user: undefined, broker: NEWEST });
    expect(explained({ queue: 'ab' }, '4.3', policy)).toMatchObject({
      decided: { name: 'mine', where: 'my.yaml:2:3', what: 'action leave' },
      steps: ['left alone: the rule for its name says so'],
      isRewritten: false,
      atRunTime: undefined,
    });
    const ready = { queue: 'b', durable: true, arguments: { 'x-queue-type': 'quorum' } };
    expect(explained(ready, '4.3', policy)).toMatchObject({
      decided: DEFAULT,
      steps: [],
      isRewritten: false,
    });
  });

  it('tells a rule in the words of a rules file', () => {
    const text =
      'rules: [{action: quorum, expires: 90s, arguments: {set: {a: [1, 2.5, x], b: true}, remove: [c, d]}}, {action: leave}]';
    const { rules } = parseRules('f', text);
    const policy = new RulePolicies(rules).for({ virtualHost: '/', user: undefined, broker: NEWEST });
    expect(explained({ queue: 'q' }, '4.3', policy).decided?.what).toBe(
      'action quorum, expires 90 s, sets a to [1,2.5,"x"], sets b to true, removes c, removes d',
    );
    expect(explained({ method: 'exchange.declare', exchange: 'x' }, '4.3', policy).decided?.what).toBe(
      'action leave',
    );
  });

  it.each<[declare: object, atRunTime: RegExp | undefined]>([
    [{ queue: 'q' }, /queue of that name exists/],
    [{ queue: 'q', exclusive: true }, /just ended/],
    [{ queue: 'q', passive: true }, undefined],
    [{ method: 'exchange.declare', exchange: 'x' }, /transient exchange of that name exists/],
    [{ method: 'exchange.declare', exchange: 'x', durable: true }, undefined],
    [{ method: 'queue.delete', queue: 'q', if_unused: true }, /406/],
    [{ method: 'queue.delete', queue: 'q' }, undefined],
    [{ method: 'basic.consume', queue: 'q', exclusive: true }, /403/],
    [{ method: 'basic.consume', queue: 'q' }, undefined],
    [{ method: 'basic.qos', prefetch_count: 1, global: true }, undefined],
  ])('says what depends on what the broker has: %j', (declare, atRunTime) => {
    expect(explained(declare).atRunTime ?? '').toMatch(atRunTime ?? /^$/);
  });

  it('of what the broker gets says that nothing changes any more', () => {
    const argument = fc.constantFrom<[string, unknown]>(
      ['x-max-priority', 5],
      ['x-queue-type', 'classic'],
      ['x-overflow', 'reject-publish-dlx'],
      ['x-queue-master-locator', 'min-masters'],
      ['x-expires', 7],
      ['täg', [1, 1.5, null, { a: '😀' }, -3_000_000_000]],
    );
    const flags = fc.record({
      durable: fc.boolean(),
      auto_delete: fc.boolean(),
      exclusive: fc.boolean(),
      passive: fc.boolean(),
      no_wait: fc.boolean(),
    });
    const name = fc.string({ unit: 'grapheme', maxLength: 10 });
    fc.assert(
      fc.property(
        name,
        flags,
        fc.array(argument, { maxLength: 4 }),
        fc.constantFrom('3.10', '4.0', '4.3'),
        (queue, flags, entries, broker) => {
          const declare = { queue, ...flags, arguments: Object.fromEntries(entries) };
          const once = explained(declare, broker);
          const again = explained(plainDeclare(once.sent), broker);
          expect(again.sent).toEqual(once.sent);
          expect(again.isRewritten).toBe(false);
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe('a declare as JSON', () => {
  it('is a queue.declare unless it says otherwise', () => {
    expect(readDeclare('{"queue": "q"}')).toEqual({ method: 'queue.declare', values: { queue: 'q' } });
    expect(readDeclare('{"method": "basic.qos", "prefetch_size": 4294967295}')).toEqual({
      method: 'basic.qos',
      values: { prefetch_size: 4_294_967_295n },
    });
  });

  it.each<[string, string]>([
    ['{', 'it is no JSON'],
    ['[]', 'expected a JSON object such as'],
    ['"q"', 'expected a JSON object such as'],
    ['null', 'expected a JSON object such as'],
    [
      '{"method": "queue.bind"}',
      'key "method": no rule concerns "queue.bind"; known are queue.declare, exchange.declare, queue.delete, basic.qos, basic.consume',
    ],
    ['{"method": 1}', 'key "method": no rule concerns 1'],
    [
      '{"name": "q"}',
      'key "name": queue.declare has no such argument; known are method, queue, passive, durable, exclusive, auto_delete, no_wait, arguments',
    ],
    ['{"__proto__": 1}', 'key "__proto__": queue.declare has no such argument'],
    ['{"method": "basic.qos", "queue": "q"}', 'key "queue": basic.qos has no such argument'],
    ['{"queue": 5}', 'key "queue": expected a text of at most 255 octets, not 5'],
    [`{"queue": "${'ä'.repeat(128)}"}`, 'key "queue": expected a text of at most 255 octets'],
    ['{"durable": "yes"}', 'key "durable": expected true or false, not "yes"'],
    ['{"durable": 1}', 'key "durable": expected true or false, not 1'],
    ['{"arguments": []}', 'key "arguments": expected an object, not []'],
    ['{"arguments": null}', 'key "arguments": expected an object, not null'],
    [
      '{"method": "basic.qos", "prefetch_count": 65536}',
      'key "prefetch_count": expected a whole number from 0 to 65535, not 65536',
    ],
    [
      '{"method": "basic.qos", "prefetch_count": 1.5}',
      'key "prefetch_count": expected a whole number from 0 to 65535, not 1.5',
    ],
    [
      '{"method": "basic.qos", "prefetch_size": -1}',
      'key "prefetch_size": expected a whole number from 0 to 4294967295',
    ],
    [
      '{"arguments": {"a": [{"b": 9007199254740993}]}}',
      'key "arguments.a[0].b": 9007199254740992 is too large to be exact in JSON',
    ],
    [`{"arguments": {"${'a'.repeat(256)}": 1}}`, ': a name has at most 255 octets'],
  ])('is refused with its key: %s', (text, message) => {
    expect(() => readDeclare(text)).toThrow(message);
  });
});

describe('what is written of an explanation', () => {
  const declare = readDeclare('{"queue": "q", "arguments": {"x-queue-type": "quorum"}}');

  it('as JSON has all of it', () => {
    const written = JSON.parse(
      explanationJson(declare, explain(declare, DEFAULT_POLICY, NEWEST), NEWEST),
    ) as object;
    expect(written).toMatchObject({
      broker: '4.3',
      declared: { method: 'queue.declare', queue: 'q', arguments: { 'x-queue-type': 'quorum' } },
      rule: { ...DEFAULT, what: 'action quorum' },
      rewritten: true,
      changes: [],
      sent: { method: 'queue.declare', queue: 'q', durable: true, no_wait: false },
    });
  });

  it('as text has a line for each thing', () => {
    const text = (json: string): string => {
      const read = readDeclare(json);
      return explanationText(read, explain(read, DEFAULT_POLICY, NEWEST), NEWEST);
    };
    expect(text('{"queue": "q", "auto_delete": true}').split('\n')).toEqual([
      'queue.declare on RabbitMQ 4.3',
      'rule: default (built in): action quorum',
      'what the proxy does:',
      ...Array.from({ length: 4 }, () => expect.stringMatching(/^ {2}\S/) as string),
      'what changes in meaning:',
      `  delivery-limit: ${MEANING['delivery-limit']}`,
      `  auto-delete: ${MEANING['auto-delete']}`,
      'what the broker gets:',
      expect.stringMatching(/^ {2}\{"method":"queue.declare","queue":"q",.*\}$/),
      'at run time:',
      expect.stringMatching(/^ {2}it is tried/),
      '',
    ]);
    expect(text('{"queue": "q", "durable": true, "arguments": {"x-queue-type": "quorum"}}')).toContain(
      'nothing changes:\n  it is as the rules want it already\nwhat the broker gets:\n',
    );
  });
});

describe('docs/proxy.md', () => {
  it('says of each change of meaning what explanations say', () => {
    const document = readFileSync(new URL('../../../docs/proxy.md', import.meta.url), 'utf8');
    const rows = [...document.matchAll(/^\| `([\w-]+)` \| (.*) \|$/gm)].map(([, change, text]) => [
      change,
      text,
    ]);
    const told = Object.fromEntries(rows) as Record<string, string>;
    for (const change of MEANING_CHANGES) expect(told[change]?.replaceAll('`', '')).toBe(MEANING[change]);
  });
});
