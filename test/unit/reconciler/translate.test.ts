import { describe, expect, it } from 'vitest';
import type { JsonObject } from '../../../common/kube/types.ts';
import { parseExact } from '../../../reconciler/broker/exact-json.ts';
import { type Translation, translateDefinitions } from '../../../reconciler/broker/translate.ts';

const TARGET = { major: 4, minor: 3, patch: 6 };

function translate(saved: JsonObject, form: 'quorum' | 'classic' = 'quorum'): Translation {
  return translateDefinitions(saved, { form, target: TARGET });
}

function policy(name: string, definition: JsonObject, more: JsonObject = {}): JsonObject {
  return { vhost: '/', name, pattern: '.*', 'apply-to': 'all', definition, priority: 0, ...more };
}

/** What became of the objects of a kind, in short. */
function results({ outcomes }: Translation, kind: string): string[] {
  return outcomes
    .filter((outcome) => outcome.kind === kind)
    .map(({ name, result, why }) => `${name} ${result}${why === '' ? '' : `: ${why}`}`);
}

describe('policies that are brought back', () => {
  it('lose what mirrors queues, and go where nothing else is in them', () => {
    const translation = translate({
      policies: [
        policy('ha-all', { 'ha-mode': 'all', 'ha-sync-mode': 'automatic' }),
        policy('mixed', { 'ha-mode': 'exactly', 'ha-params': 2, 'max-length': 5 }),
        policy('other', { 'max-length': 5 }),
      ],
    });
    expect(results(translation, 'policies')).toEqual([
      'ha-all dropped: it only mirrors queues, which RabbitMQ 4 does not; what it came before applies now where the patterns match: mixed, other',
      'mixed changed',
      'other kept',
    ]);
    expect(translation.definitions['policies']).toEqual([
      policy('mixed', { 'max-length': 5 }),
      policy('other', { 'max-length': 5 }),
    ]);
  });

  it.each([
    ['of lower priority', { priority: -1 }, true],
    ['of the same priority', {}, true],
    ['of higher priority', { priority: 1 }, false],
    ['for exchanges', { 'apply-to': 'exchanges' }, false],
    ['for some queues', { 'apply-to': 'classic_queues' }, true],
    ['of another virtual host', { vhost: 'other' }, false],
  ])('tell which policies apply in their place: one %s', (_, more, isTold) => {
    const translation = translate({
      policies: [
        policy('ha', { 'ha-mode': 'all' }, { 'apply-to': 'queues' }),
        policy('beside', { expires: 5 }, more),
      ],
    });
    expect(results(translation, 'policies')[0]!.endsWith(' match: beside')).toBe(isTold);
  });

  it('have the newer word for where leaders are, and keep what refuses publishers', () => {
    const definition = { 'queue-master-locator': 'min-masters', overflow: 'reject-publish-dlx' };
    const translation = translate({ policies: [policy('p', definition)] });
    expect(translation.definitions['policies']).toEqual([
      policy('p', { 'queue-leader-locator': 'balanced', overflow: 'reject-publish' }),
    ]);
    expect(translate({ policies: [policy('p', definition)] }, 'classic').definitions['policies']).toEqual([
      policy('p', { 'queue-leader-locator': 'balanced', overflow: 'reject-publish-dlx' }),
    ]);
  });

  it('are treated so as operator policies, too', () => {
    const operator = (name: string, definition: JsonObject): JsonObject => ({
      vhost: '/',
      component: 'operator_policy',
      name,
      value: { pattern: '.*', 'apply-to': 'queues', definition, priority: 0 },
    });
    const shovel = { vhost: '/', component: 'shovel', name: 's', value: { 'ha-mode': 'no policy' } };
    const translation = translate({
      parameters: [
        operator('ha', { 'ha-mode': 'all' }),
        operator('both', { 'ha-mode': 'all', expires: 5 }),
        shovel,
      ],
    });
    expect(translation.definitions['parameters']).toEqual([operator('both', { expires: 5 }), shovel]);
  });

  it('stay where the broker still mirrors', () => {
    const saved = { policies: [policy('ha', { 'ha-mode': 'all', 'queue-master-locator': 'random' })] };
    const target = { major: 3, minor: 13, patch: undefined };
    expect(translateDefinitions(saved, { form: 'classic', target }).definitions['policies']).toEqual(
      saved.policies,
    );
  });
});

describe('other objects that are brought back', () => {
  it('are not what a cluster or a broker makes itself, nor what hangs on that', () => {
    const named = 'amq.gen-JzTY20BRgKO-HjmUJj0wLg';
    const queue = { vhost: '/', durable: true, auto_delete: false, arguments: {} };
    const binding = { vhost: '/', source: 'x', destination_type: 'queue', routing_key: 'k', arguments: {} };
    const translation = translate({
      global_parameters: ['internal_cluster_id', 'cluster_name', 'mqtt_default_vhosts'].map((name) => ({
        name,
        value: {},
      })),
      queues: [
        { ...queue, name: named },
        { ...queue, name: 'q' },
      ],
      exchanges: [
        { vhost: '/', name: 'amq.rabbitmq.log', type: 'topic', durable: true, arguments: {} },
        { vhost: '/', name: 'x', type: 'topic', durable: true, arguments: {} },
      ],
      bindings: [
        { ...binding, destination: named },
        { ...binding, destination: 'q' },
        { ...binding, source: 'amq.topic', destination: 'q' },
        { ...binding, source: 'x', destination_type: 'exchange', destination: 'amq.fanout' },
      ],
    });
    expect(results(translation, 'global_parameters')).toEqual([
      'internal_cluster_id dropped: the new cluster has its own',
      'cluster_name dropped: the new cluster has its own',
      'mqtt_default_vhosts kept',
    ]);
    expect(results(translation, 'queues')).toEqual([
      `${named} dropped: the broker named it, for a client that gets another one when it comes back`,
      'q changed',
    ]);
    expect(results(translation, 'exchanges')).toEqual([
      'amq.rabbitmq.log dropped: every broker makes it itself',
      'x kept',
    ]);
    expect(results(translation, 'bindings')).toEqual([
      `x to queue ${named} by k dropped: what it binds is not brought back`,
      'x to queue q by k kept',
      'amq.topic to queue q by k kept',
      'x to exchange amq.fanout by k kept',
    ]);
  });

  it('have no arguments that are not text, for definitions only describe those', () => {
    const binding = {
      vhost: '/',
      source: 'x',
      destination_type: 'exchange',
      destination: 'y',
      routing_key: '',
      arguments: { deep: [{ b: 'Not UTF-8, base64 is: //4=' }] },
    };
    expect(results(translate({ bindings: [binding] }), 'bindings')).toEqual([
      'x to exchange y with arguments dropped: one of its arguments is not UTF-8, which definitions cannot carry',
    ]);
  });

  it('say nothing of virtual hosts where 3.x says that there is nothing', () => {
    const vhosts = [
      { name: '/', limits: [], metadata: { description: 'd', default_queue_type: 'undefined' } },
      { name: 'q', metadata: { tags: [], default_queue_type: 'quorum' } },
    ];
    expect(translate({ vhosts }).definitions['vhosts']).toEqual([
      { name: '/', metadata: { description: 'd' } },
      { name: 'q', metadata: { tags: [], default_queue_type: 'quorum' } },
    ]);
  });

  it('keep users, permissions and numbers as they are, to the last digit', () => {
    const text =
      '{"users":[{"name":"a","password_hash":"h","hashing_algorithm":"rabbit_password_hashing_md5","tags":[]}],' +
      '"permissions":[{"user":"a","vhost":"/","configure":"","write":"","read":".*"}],' +
      '"bindings":[{"source":"x","vhost":"/","destination":"y","destination_type":"exchange","routing_key":"",' +
      '"arguments":{"half":1.0,"many":9007199254740993,"small":1e-7}}]}';
    const { definitions, outcomes } = translate(parseExact(text) as JsonObject);
    const { users, permissions, bindings } = definitions;
    expect(JSON.stringify({ users, permissions, bindings })).toBe(text);
    expect(outcomes.map(({ result }) => result)).toEqual(['kept', 'kept', 'kept']);
  });
});
