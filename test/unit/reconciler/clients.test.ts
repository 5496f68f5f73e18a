import { once } from 'node:events';
import { type Server, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Api, ApiFailure } from '../../../common/kube/api.ts';
import type { Json } from '../../../common/kube/types.ts';
import type { LedgerDocument } from '../../../proxy/ledger-document.ts';
import {
  type ClientsStatus,
  clientsLookup,
  clientsStatus,
  durationOf,
  judgeRemoval,
  readLedger,
} from '../../../reconciler/clients.ts';
import { type ToldClient, ledgerDocument } from '../../support/ledgers.ts';

const START = '2026-11-21T14:00:00Z';
const NOVA = { user: 'nova', connectionName: 'nova-compute:1:a', product: 'py-amqp', version: '5.1.1' };

/** A client for which something was rewritten. */
function needing(who: ToldClient = NOVA): ToldClient {
  return { ...who, told: (record) => record.rewritten('queue.declare') };
}

function document(...clients: ToldClient[]): Json {
  return ledger({ clients });
}

function ledger(settings: Parameters<typeof ledgerDocument>[0]): Json {
  const made: LedgerDocument = ledgerDocument({ mode: 'transparent', startedAt: START, ...settings });
  return JSON.parse(JSON.stringify(made)) as Json;
}

const told = (pod: string, document: Json) => ({ pod, ...readLedger(document) });
const now = (iso: string): Date => new Date(iso);

describe('status.clients', () => {
  it('counts who needs the proxy now, once however many pods and addresses it has', () => {
    const other = { user: 'shop', product: 'amqplib', version: '0.10.3' };
    const a = document(needing(), needing({ ...NOVA, address: '10.0.0.9' }), needing(other));
    const b = document(needing(), { user: 'fine' });
    const status = clientsStatus({ told: [told('a', a), told('b', b)] }, 2);
    expect(status).toEqual({
      needProxy: 2,
      top: ['nova-compute:1:a, py-amqp 5.1.1, user nova', 'amqplib 0.10.3, user shop'],
      noneSince: null,
      pods: 2,
      unreachable: 0,
      why: null,
    });
  });

  it('says since when none needs it: since the last one left, on the pod where that was last', () => {
    const a = document({ ...needing(), at: 60, leaves: true }, { user: 'fine', at: 90 });
    const b = document({ ...needing(), at: 600, leaves: true });
    expect(clientsStatus({ told: [told('a', a), told('b', b)] }, 2)).toMatchObject({
      needProxy: 0,
      top: [],
      noneSince: '2026-11-21T14:10:00Z',
    });
    const restarted = ledger({ startedAt: '2026-11-22T08:00:00Z' });
    expect(clientsStatus({ told: [told('a', a), told('b', restarted)] }, 2).noneSince).toBe(
      '2026-11-22T08:00:00Z',
    );
  });

  it.each([
    [
      'a pod that can not be asked',
      { told: [told('a', document()), { pod: 'b', why: 'ECONNREFUSED' }] },
      2,
      1,
      'b: ECONNREFUSED',
    ],
    ['a pod that is missing', { told: [told('a', document())] }, 3, 2, 'a pod is missing'],
    ['pods that can not be listed', { told: [], why: 'forbidden' }, 1, 1, 'forbidden'],
    ['a cluster without pods', { told: [] }, 0, 0, 'a pod is missing'],
  ])('never says so with %s', (_, clients, replicas, unreachable, why) => {
    expect(clientsStatus(clients, replicas)).toMatchObject({
      needProxy: null,
      noneSince: null,
      unreachable,
      why,
    });
  });

  it('counts a client that its ledger has forgotten to make room', () => {
    const full = ledger({ limit: 1, clients: [needing(), { user: 'other', at: 1 }] });
    expect(clientsStatus({ told: [told('a', full)] }, 1)).toMatchObject({
      needProxy: 1,
      top: [],
      noneSince: null,
    });
  });

  it('names the twenty with the most connections, in bounded text without control characters', () => {
    const clients = Array.from({ length: 30 }, (_, index) => needing({ user: `u${index}` }));
    const many = [needing({ user: 'busy' }), needing({ user: 'busy' })];
    const evil = needing({ user: 'e\nvil\u001B[31m', connectionName: 'x'.repeat(5000) });
    const status = clientsStatus({ told: [told('a', document(...clients, ...many, evil, evil, evil))] }, 1);
    expect(status.needProxy).toBe(32);
    expect(status.top).toHaveLength(20);
    expect(status.top[0]).toMatch(/^x{200,255}…$/);
    expect(status.top[1]).toBe('without a name, user busy');
    expect(status.top.join('')).not.toMatch(/\p{Cc}/u);
  });

  it.each([
    [null],
    [{}],
    [{ summary: {} }],
    [{ summary: { unneededSince: 5 } }],
    [{ summary: { unneededSince: 'yesterday' } }],
  ])('takes %j for no ledger', (document) => {
    expect(() => readLedger(document)).toThrow('something else than a ledger');
  });

  it('reads whatever is JSON without failing in another way', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.jsonValue(), (clients, summary) => {
        const document = { clients, summary: { unneededSince: null, ...(summary as object) } } as Json;
        let names: string[] = [];
        let failure = 'something else than a ledger';
        try {
          names = readLedger(document).needing.map(({ name }) => name);
        } catch (error) {
          failure = (error as Error).message;
        }
        expect(names.every((name) => name.length <= 256)).toBe(true);
        expect(failure).toContain('something else than a ledger');
      }),
    );
  });
});

describe('the time in auto-remove-proxy-after', () => {
  it.each([
    ['30m', 1_800_000],
    ['1m', 60_000],
    ['72h', 259_200_000],
    ['7d', 604_800_000],
    ['365d', 31_536_000_000],
  ])('takes %s', (text, ms) => {
    expect(durationOf(text)).toBe(ms);
  });

  it.each(['', '0h', '72', '72 h', '-1h', '1.5h', '30s', '366d', '1h30m', '9999999d', '1w', '٣h'])(
    'takes no %j',
    (text) => {
      expect(durationOf(text)).toBeUndefined();
    },
  );
});

describe('ProxyRemovable', () => {
  const quiet: ClientsStatus = {
    needProxy: 0,
    top: [],
    noneSince: START,
    pods: 3,
    unreachable: 0,
    why: null,
  };

  it('is false while clients need the proxy, and names some', () => {
    const clients = { ...quiet, needProxy: 5, top: ['a', 'b', 'c', 'd'], noneSince: null };
    expect(judgeRemoval(clients, '1h', now('2027-01-01T00:00:00Z'))).toEqual({
      removable: false,
      reason: 'ClientsNeedProxy',
      message: '5 clients need the proxy: a; b; c; and 2 more',
      removeNow: false,
    });
  });

  it('is not known while a pod can not be asked', () => {
    const clients = { ...quiet, noneSince: null, unreachable: 1, why: 'c: ECONNREFUSED' };
    expect(judgeRemoval(clients, '1h', now('2027-01-01T00:00:00Z'))).toEqual({
      removable: false,
      reason: 'NotKnown',
      message: 'the proxies of 1 of 3 pods could not be asked about their clients: c: ECONNREFUSED',
      removeNow: false,
    });
  });

  it('waits for a day, or for as long as the annotation asks for', () => {
    const until = (after: string | undefined, at: string) => judgeRemoval(quiet, after, now(at));
    expect(until(undefined, '2026-11-22T13:59:59Z')).toMatchObject({
      removable: false,
      reason: 'NotYet',
      message: `no client has needed the proxy since ${START}; it counts as removable at 2026-11-22T14:00:00Z if that stays so`,
    });
    expect(until(undefined, '2026-11-22T14:00:00Z')).toMatchObject({
      removable: true,
      reason: 'NoneSeen',
      removeNow: false,
    });
    expect(until('72h', '2026-11-24T13:59:59Z')).toMatchObject({ reason: 'NotYet', removeNow: false });
    expect(until('72h', '2026-11-24T14:00:00Z')).toEqual({
      removable: true,
      reason: 'NoneSeen',
      message: `no client has needed the proxy since ${START} (3 d): rabbitmq.openstack.org/clients-reconfigured is set, as quorumbridge.io/auto-remove-proxy-after: 72h asks for`,
      removeNow: true,
    });
    expect(until('10m', '2026-11-21T14:10:00Z').message).toContain('(10 min)');
  });

  it('says what is wrong with the annotation, and removes nothing by it', () => {
    expect(judgeRemoval(quiet, 'soon', now('2027-01-01T00:00:00Z'))).toEqual({
      removable: false,
      reason: 'InvalidAnnotation',
      message: expect.stringMatching(
        /auto-remove-proxy-after: "soon" is no duration .*such as 30m, 72h or 7d; no client/,
      ),
      removeNow: false,
    });
  });

  it('never removes before every pod has been without need for as long as that', () => {
    fc.assert(
      fc.property(
        fc.array(fc.option(fc.integer({ min: 0, max: 5000 })), { minLength: 1, maxLength: 4 }),
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 0, max: 6000 }),
        fc.integer({ min: 1, max: 3000 }),
        (pods, replicas, at, after) => {
          const start = Date.parse(START);
          const all = pods.map((since, index) =>
            since === null
              ? { pod: `${index}`, why: 'silent' }
              : { pod: `${index}`, noneSince: start + since * 60_000, needing: [] },
          );
          const status = clientsStatus({ told: all }, replicas);
          const { removeNow } = judgeRemoval(status, `${after}m`, new Date(start + at * 60_000));
          const isQuiet =
            pods.length >= replicas && pods.every((since) => since !== null && at - since >= after);
          expect(removeNow).toBe(isQuiet);
        },
      ),
    );
  });
});

describe('asking the pods', () => {
  let servers: Server[];
  let port: number;
  const answers = new Map<string, string>();

  beforeEach(async () => {
    answers.clear();
    servers = [];
    port = 0;
    for (const address of ['127.0.0.21', '127.0.0.22']) {
      const server = createServer((request, response) => {
        const body = answers.get(address);
        if (body === 'hang') return;
        response.statusCode = request.url === '/clients' && body !== undefined ? 200 : 404;
        response.end(body);
      });
      server.listen(port, address);
      await once(server, 'listening');
      port = (server.address() as AddressInfo).port;
      servers.push(server);
    }
  });
  afterEach(() => {
    for (const server of servers) {
      server.closeAllConnections();
      server.close();
    }
  });

  const pod = (name: string, podIP?: string) => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name },
    status: podIP === undefined ? {} : { podIP },
  });
  const lookup = (items: ReturnType<typeof pod>[]) => {
    const asked: unknown[] = [];
    const list: Api['list'] = async (resource, selection) => {
      asked.push([resource.plural, selection]);
      return { items, resourceVersion: '1' };
    };
    return { asked, lookup: clientsLookup({ list } as Api, 500, port) };
  };
  const signal = new AbortController().signal;

  it('asks each by its own address, and says of each what it says or why it says nothing', async () => {
    answers.set('127.0.0.21', JSON.stringify(document(needing()))).set('127.0.0.22', 'hang');
    const pods = [
      pod('a', '127.0.0.21'),
      pod('b', '127.0.0.22'),
      pod('c'),
      pod('d', 'example.com'),
      pod('e', '127.0.0.23'),
    ];
    const { asked, lookup: clients } = lookup(pods);
    const { told } = await clients.ask('openstack', 'rabbit', signal);
    expect(asked).toEqual([
      [
        'pods',
        {
          namespace: 'openstack',
          labelSelector:
            'app.kubernetes.io/component=rabbitmq,app.kubernetes.io/part-of=rabbitmq,app.kubernetes.io/name=rabbit',
        },
      ],
    ]);
    expect(told).toEqual([
      { pod: 'a', noneSince: null, needing: [expect.objectContaining({ connections: 1 })] },
      { pod: 'b', why: 'no answer within 500 ms' },
      { pod: 'c', why: 'it has no address yet' },
      { pod: 'd', why: 'it has no address yet' },
      { pod: 'e', why: expect.stringContaining('ECONNREFUSED') },
    ]);
    expect(clientsStatus({ told }, 5)).toMatchObject({
      needProxy: 1,
      noneSince: null,
      pods: 5,
      unreachable: 4,
    });
  });

  it('says why nobody could be asked, and ends with the signal', async () => {
    const list: Api['list'] = () => Promise.reject(new ApiFailure('the API server answered 403'));
    expect(await clientsLookup({ list } as Api, 500).ask('openstack', 'rabbit', signal)).toEqual({
      told: [],
      why: 'the API server answered 403',
    });
    answers.set('127.0.0.21', 'hang');
    const { lookup: clients } = lookup([pod('a', '127.0.0.21')]);
    const { told } = await clients.ask('openstack', 'rabbit', AbortSignal.abort());
    expect(told).toEqual([{ pod: 'a', why: expect.stringMatching(/aborted/) }]);
  });
});
