import { describe, expect, it } from 'vitest';
import { UsageError } from '../../../../common/errors.ts';
import { RulePolicies } from '../../../../proxy/policy/policies.ts';
import type { PolicyScope } from '../../../../proxy/policy/policy.ts';
import { parseRules } from '../../../../proxy/policy/rules-file.ts';
import { parseVersion } from '../../../../proxy/version.ts';
import { encodeField, longstr } from '../../../support/amqp-frames.ts';

function scope(broker = '4.3', virtualHost = '/', user: string | undefined = 'guest'): PolicyScope {
  return { virtualHost, user, broker: parseVersion(broker)! };
}

/** The rules of a list, given without the file's own lines. */
function policies(rules: string): RulePolicies {
  return new RulePolicies(parseRules('f', `rules:\n${rules}`).rules);
}

/** What is wrong with a text, a line each. */
function problems(text: string): string[] {
  try {
    parseRules('f', text);
  } catch (error) {
    if (error instanceof UsageError) return error.message.split('\n');
    throw error;
  }
  return [];
}

const EXAMPLE = `
preset: celery
rules:
  - name: short-lived replies
    match:
      queue: ["reply_*", "*_fanout_*"]
      vhost: "/nova"
      user: "nova*"
      broker: ">=4.0 <4.3"
    action: quorum
    expires: 30m
    arguments:
      set: {x-delivery-limit: -1, x-single-active-consumer: true, x-dead-letter-exchange: ""}
      remove: [x-max-length, "x-overflow"]
  - action: leave
`;

describe('a rules file', () => {
  it('says what becomes of the queues that it matches', () => {
    const { preset, rules } = parseRules('some/rules.yaml', EXAMPLE);
    expect(preset).toBe('celery');
    const policy = new RulePolicies(rules).for(scope('4.0', '/nova', 'nova-api'));
    expect(policy.queue('compute_fanout_1')).toEqual({
      rule: 'short-lived replies',
      where: 'some/rules.yaml:4:5',
      action: 'quorum',
      expires: 1_800_000,
      set: [
        ['x-delivery-limit', new Uint8Array(encodeField({ tag: 'I', value: -1 }))],
        ['x-single-active-consumer', new Uint8Array(encodeField({ tag: 't', value: 1 }))],
        ['x-dead-letter-exchange', new Uint8Array(encodeField(longstr('')))],
      ],
      remove: ['x-max-length', 'x-overflow'],
    });
    expect(policy.queue('other')).toEqual({
      rule: 'rule 2',
      where: 'some/rules.yaml:15:5',
      action: 'leave',
      set: [],
      remove: [],
    });
    expect(policy.exchange('reply_1')).toEqual({
      rule: 'rule 2',
      where: 'some/rules.yaml:15:5',
      action: 'leave',
    });
  });

  it('may be JSON', () => {
    const text = '{"rules": [{"match": {"queue": "q"}, "action": "classic-durable", "expires": "none"}]}';
    const policy = new RulePolicies(parseRules('f', text).rules).for(scope());
    expect(policy.queue('q')).toMatchObject({ action: 'classic-durable', expires: 'none', where: 'f:1:12' });
  });

  it.each(['{}', 'preset: openstack', 'rules: []'])('may have no rules: %s', (text) => {
    expect(parseRules('f', text).rules).toEqual([]);
  });

  it('decides by the first rule that matches, wholly', () => {
    const policy = policies(
      [
        '- {match: {queue: "a*"}, action: quorum, expires: 5m}',
        '- {match: {queue: "ab"}, action: leave}',
        '- {match: {queue: ["b", "c?"]}, action: quorum, arguments: {remove: x-max-length}}',
      ].join('\n'),
    ).for(scope());
    expect(policy.queue('ab')).toMatchObject({ rule: 'rule 1', expires: 300_000, remove: [] });
    expect(policy.queue('c1')).toMatchObject({ rule: 'rule 3', remove: ['x-max-length'] });
    expect(policy.queue('c')).toEqual({
      rule: 'default',
      where: 'built in',
      action: 'quorum',
      set: [],
      remove: [],
    });
    expect(policy.exchange('ab')).toEqual({ rule: 'default', where: 'built in', action: 'durable' });
  });

  it.each([
    ['queue names', 'match: {queue: "x"}, action: leave', 'leave', 'durable'],
    ['exchange names', 'match: {exchange: "x"}, action: leave', 'quorum', 'leave'],
    ['no names, and leave', 'action: leave', 'leave', 'leave'],
    ['an empty match, and leave', 'match: , action: leave', 'leave', 'leave'],
    ['no names, and an action for queues', 'action: classic-durable', 'classic-durable', 'durable'],
  ])('is for queues, exchanges or both: with %s', (_, rule, queue, exchange) => {
    const policy = policies(`- {${rule}}`).for(scope());
    expect([policy.queue('x').action, policy.exchange('x').action]).toEqual([queue, exchange]);
  });

  it('protects exchanges from a later rule by an action for exchanges', () => {
    const policy = policies('- {match: {exchange: "x"}, action: durable}\n- {action: leave}').for(scope());
    expect([policy.exchange('x').action, policy.exchange('y').action]).toEqual(['durable', 'leave']);
    expect(policy.queue('x').action).toBe('leave');
  });

  it.each<[match: string, fits: PolicyScope[], others: PolicyScope[]]>([
    ['vhost: ["/", "/a*"]', [scope(), scope('4.3', '/ab')], [scope('4.3', '/b')]],
    ['user: "no*"', [scope('4.3', '/', 'nova')], [scope(), scope('4.3', '/', undefined)]],
    ['user: "*"', [scope()], [{ ...scope(), user: undefined }]],
    ['broker: 4.0', [scope('4.0')], [scope('3.13'), scope('4.1')]],
    ['broker: "=4.10"', [scope('4.10')], [scope('4.1')]],
    ['broker: ">=3.10 <4.1"', [scope('3.10'), scope('4.0')], [scope('3.9'), scope('4.1')]],
    ['broker: ">3.10 <=4.1"', [scope('3.11'), scope('4.1')], [scope('3.10'), scope('4.2')]],
    ['vhost: "/", broker: 4.3', [scope()], [scope('4.2'), scope('4.3', 'x')]],
  ])('is for some clients alone: %s', (match, fits, others) => {
    const all = policies(`- {match: {${match}}, action: leave}`);
    const action = (one: PolicyScope): string => all.for(one).queue('q').action;
    expect(fits.map(action)).toEqual(fits.map(() => 'leave'));
    expect(others.map(action)).toEqual(others.map(() => 'quorum'));
  });

  it.each([
    ['1', 1000],
    ['1.5s', 1500],
    ['250m', 15_000_000],
    ['720h', 2_592_000_000],
  ])('takes %s as an expiry', (text, milliseconds) => {
    const policy = policies(`- {action: quorum, expires: ${text}}`).for(scope());
    expect(policy.queue('q').expires).toBe(milliseconds);
  });

  it('sets whatever an argument may be', () => {
    const text = '- {action: quorum, arguments: {set: {a: [1, {b: 2.0}], c: 3000000000, d: 0x1F, e: "5"}}}';
    expect(
      policies(text)
        .for(scope())
        .queue('q')
        .set.map(([key, value]) => [key, Buffer.from(value)]),
    ).toEqual([
      [
        'a',
        encodeField({
          tag: 'A',
          value: [
            { tag: 'I', value: 1 },
            { tag: 'F', value: [{ key: Buffer.from('b'), field: { tag: 'd', value: 2 } }] },
          ],
        }),
      ],
      ['c', encodeField({ tag: 'l', value: 3_000_000_000n })],
      ['d', encodeField({ tag: 'I', value: 31 })],
      ['e', encodeField(longstr('5'))],
    ]);
  });
});

/** A rule with this in it, in line 2; its first key begins in column 6. */
function withRule(inside: string): string {
  return `rules:\n  - {${inside}}`;
}

const KEYS = 'a rule is a mapping with the keys name, match, action, expires, arguments';
const DURATION = 'expected a duration from 1 to 2592000 seconds, such as 30, 30s, 500ms or 5m';

describe('a rules file that can not be used is told with positions:', () => {
  it.each<[what: string, text: string, problem: string | RegExp]>([
    ['nothing', '', 'f:1:1: expected a mapping: a rules file is a mapping with the keys preset, rules'],
    ['a list', '- a', 'f:1:1: expected a mapping: a rules file is a mapping with the keys preset, rules'],
    ['no YAML', 'rules: [', /^f:1:9: /],
    [
      'an unknown key',
      'rule: []',
      'f:1:1: no such key: "rule"; a rules file is a mapping with the keys preset, rules',
    ],
    [
      'an unknown preset',
      'preset: nova',
      'f:1:9: "nova" is not valid: expected one of generic, openstack, celery',
    ],
    ['a preset that is no name', 'preset: [celery]', 'f:1:9: expected a preset'],
    ['rules that are no list', 'rules: {a: 1}', 'f:1:8: expected a list of rules'],
    ['a rule that is none', 'rules:\n  - leave', `f:2:5: expected a mapping: ${KEYS}`],
    [
      'an unknown key of a rule',
      withRule('acton: leave, action: leave'),
      `f:2:6: no such key: "acton"; ${KEYS}`,
    ],
    [
      'no action',
      withRule('name: a'),
      'f:2:5: a rule needs an action: one of quorum, classic-durable, leave, durable',
    ],
    [
      'no action for exchanges',
      withRule('match: {exchange: a}'),
      'f:2:5: a rule needs an action: one of durable, leave',
    ],
    [
      'an unknown action',
      withRule('action: classic'),
      'f:2:14: "classic" is not valid: expected one of quorum, classic-durable, leave, durable',
    ],
    [
      'an action of exchanges for queues',
      withRule('match: {queue: a}, action: durable'),
      'f:2:33: "durable" is not valid: expected one of quorum, classic-durable, leave',
    ],
    [
      'an action of queues for exchanges',
      withRule('match: {exchange: a}, action: quorum'),
      'f:2:36: "quorum" is not valid: expected one of durable, leave',
    ],
    ['an empty name', withRule('name: "", action: leave'), /^f:2:12: "" is not valid: expected 1 to 100/],
    ['a name of two lines', withRule('name: "a\\nb", action: leave'), /^f:2:12: "a\\nb" is not valid/],
    ['no name', withRule('name: , action: leave'), 'f:2:12: expected a name'],
    [
      'an unknown condition',
      withRule('match: {queues: a}, action: leave'),
      'f:2:14: no such key: "queues"; match is a mapping with the keys queue, exchange, vhost, user, broker',
    ],
    [
      'a match that is none',
      withRule('match: "a*", action: leave'),
      'f:2:13: expected a mapping: match is a mapping with the keys queue, exchange, vhost, user, broker',
    ],
    [
      'queue and exchange',
      withRule('match: {queue: a, exchange: b}, action: leave'),
      'f:2:24: a rule is for queues or for exchanges: write two rules',
    ],
    [
      'an empty list of patterns',
      withRule('match: {queue: []}, action: leave'),
      'f:2:21: expected a pattern, not an empty list',
    ],
    [
      'a pattern that is none',
      withRule('match: {queue: [a, {b: c}]}, action: leave'),
      'f:2:25: expected a pattern',
    ],
    [
      'a pattern that nothing has room for',
      withRule(`match: {vhost: "${'ä'.repeat(128)}"}, action: leave`),
      /^f:2:21: .* no name has more than 255 octets, so nothing matches it$/,
    ],
    [
      'a version with three parts',
      withRule('match: {broker: 4.3.1}, action: leave'),
      'f:2:22: "4.3.1" is not valid: expected a version such as 4.0, or comparisons joined by spaces such as >=4.0 <4.3',
    ],
    [
      'a comparison with a space',
      withRule('match: {broker: ">= 4.0"}, action: leave'),
      /^f:2:22: ">= 4.0" is not valid/,
    ],
    ['an empty range', withRule('match: {broker: ""}, action: leave'), /^f:2:22: "" is not valid/],
    [
      'a list of ranges',
      withRule('match: {broker: [4.0]}, action: leave'),
      'f:2:22: expected versions such as ">=4.0 <4.3"',
    ],
    [
      'an expiry that is none',
      withRule('action: quorum, expires: never'),
      `f:2:31: "never" is not valid: ${DURATION}`,
    ],
    [
      'a short expiry',
      withRule('action: quorum, expires: 999ms'),
      `f:2:31: "999ms" is not valid: ${DURATION}`,
    ],
    ['a long expiry', withRule('action: quorum, expires: 721h'), `f:2:31: "721h" is not valid: ${DURATION}`],
    [
      'an expiry with leave',
      withRule('action: leave, expires: 5m'),
      `f:2:21: "expires" doesn't go with "action: leave": what is left alone has none`,
    ],
    [
      'arguments with durable',
      withRule('action: durable, arguments: {}'),
      `f:2:23: "arguments" doesn't go with "action: durable": it is for queues`,
    ],
    [
      'arguments of an exchange',
      withRule('match: {exchange: a}, action: durable, arguments: {remove: a}'),
      `f:2:45: "arguments" doesn't go with "action: durable": it is for queues`,
    ],
  ])('%s', (_, text, problem) => {
    const found = problems(text);
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(problem);
  });

  it('all at once, in the order of the file', () => {
    const text = 'rules:\n  - {action: no}\n  - {action: quorum, foo: 1, expires: x}\npreset: nova\n';
    expect(problems(text).map((line) => /^f:\d+:\d+/.exec(line)?.[0])).toEqual([
      'f:2:14',
      'f:3:22',
      'f:3:39',
      'f:4:9',
    ]);
  });
});

/** A rule for queues whose arguments are these. */
function withArguments(inside: string, action = 'quorum'): string {
  return `rules:\n- action: ${action}\n  arguments: {${inside}}`;
}

describe('arguments that can not be edited are told with positions:', () => {
  it.each<[what: string, text: string, problem: string | RegExp]>([
    [
      'another key',
      withArguments('add: {a: 1}'),
      'f:3:15: no such key: "add"; arguments is a mapping with the keys set, remove',
    ],
    ['a set that is none', withArguments('set: [a]'), 'f:3:20: expected a mapping from arguments to values'],
    ['a remove that is none', withArguments('remove: {a: 1}'), 'f:3:23: expected the name of an argument'],
    [
      'nothing to remove',
      withArguments('remove: []'),
      'f:3:23: expected the name of an argument, not an empty list',
    ],
    [
      'both',
      withArguments('set: {a: 1}, remove: [b, a]'),
      'f:3:14: "a" is both set and removed: one of them',
    ],
    [
      'the type, set',
      withArguments('set: {x-queue-type: stream}'),
      `f:3:21: "x-queue-type" can't be set: the type is what "action" decides`,
    ],
    [
      'the type, removed',
      withArguments('remove: x-queue-type'),
      'f:3:23: "x-queue-type" is not valid: the type is what "action" decides',
    ],
    [
      'the expiry',
      withArguments('set: {x-expires: 1000}'),
      `f:3:21: "x-expires" can't be set: an expiry is what "expires" sets`,
    ],
    [
      'a key that is no ASCII',
      withArguments('set: {ä: 1}'),
      /^f:3:21: "ä" can't be set: expected the name of an argument/,
    ],
    ['an empty key', withArguments('set: {"": 1}'), /^f:3:21: "" can't be set/],
    [
      'a long key',
      withArguments(`remove: ${'a'.repeat(256)}`),
      /^f:3:23: "a+" is not valid: expected the name/,
    ],
    ['a key inside that is no ASCII', withArguments('set: {a: {ä: 1}}'), /^f:3:25: "ä": expected the name/],
    ['no value', withArguments('set: {a: }'), 'f:3:24: expected a value'],
    [
      'a number beyond 64 bits',
      withArguments('set: {a: 9223372036854775808}'),
      "f:3:24: 9223372036854775808 doesn't fit in 64 bits",
    ],
    ['no number', withArguments('set: {a: .nan}'), 'f:3:24: .nan is no number that RabbitMQ knows'],
    [
      'what quorum queues refuse',
      withArguments('set: {x-max-priority: 5}'),
      `f:3:21: "x-max-priority" can't be set: quorum queues refuse it; "action: classic-durable" keeps priorities`,
    ],
    [
      'what classic queues refuse',
      withArguments('set: {x-delivery-limit: -1}', 'classic-durable'),
      /^f:3:21: "x-delivery-limit" can't be set: classic/,
    ],
    [
      'what RabbitMQ 4.3 refuses',
      withArguments('set: {x-queue-version: 2}', 'classic-durable'),
      /^f:3:21: "x-queue-version" can't be set/,
    ],
    [
      'reject-publish-dlx on quorum',
      withArguments('set: {x-overflow: reject-publish-dlx}'),
      /^f:3:33: quorum queues take reject-publish-dlx for drop-head/,
    ],
    [
      'a text in the place of a number',
      withArguments('set: {x-max-length: "5"}'),
      'f:3:35: "5" is not valid for x-max-length: expected a whole number of at least 0',
    ],
    ['a fraction', withArguments('set: {x-max-length: 1.5}'), /^f:3:35: "1.5" is not valid for x-max-length/],
    [
      'a number out of range',
      withArguments('set: {x-max-priority: 256}', 'classic-durable'),
      /: expected a whole number from 1 to 255$/,
    ],
    [
      'a limit below -1',
      withArguments('set: {x-delivery-limit: -2}'),
      /^f:3:39: "-2" is not valid for x-delivery-limit/,
    ],
    [
      'a number that no wire type holds',
      withArguments('set: {x-max-length: 9223372036854775808}'),
      /^f:3:35: "9223372036854775808" is not valid/,
    ],
    [
      'a word in the place of a boolean',
      withArguments('set: {x-single-active-consumer: yes}'),
      'f:3:47: "yes" is not valid for x-single-active-consumer: expected true or false',
    ],
    [
      'a word that RabbitMQ does not know',
      withArguments('set: {x-overflow: drop}'),
      'f:3:33: "drop" is not valid for x-overflow: expected one of drop-head, reject-publish, reject-publish-dlx',
    ],
    [
      'a number in the place of a text',
      withArguments('set: {x-dead-letter-exchange: 5}'),
      /^f:3:45: "5" is not valid for x-dead-letter-exchange: expected a text$/,
    ],
    [
      'a list in the place of a number',
      withArguments('set: {x-max-length: [5]}'),
      'f:3:35: expected a whole number of at least 0',
    ],
  ])('%s', (_, text, problem) => {
    const found = problems(text);
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(problem);
  });
});
