import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { Agent } from 'node:https';
import { connect as connectTcp } from 'node:net';
import { text } from 'node:stream/consumers';
import { type TLSSocket, connect as connectTls } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeCa, makeServingCertificate } from '../../../certs/certificates.ts';
import type { ReviewAnswer } from '../../../webhook/answer.ts';
import { WebhookStats } from '../../../webhook/metrics.ts';
import { startServer } from '../../../webhook/server.ts';
import {
  type Answer,
  type TestWebhook,
  admissionReview,
  https,
  httpGet,
  rabbitmqCluster,
  readableLog,
  startTestWebhook,
} from './harness.ts';

const ENABLED = { annotations: { 'rabbitmq.openstack.org/enable-proxy': 'true' } };

let webhook: TestWebhook;
beforeAll(async () => {
  webhook = await startTestWebhook({ dnsName: ['webhook.quorumbridge.svc'] });
});
afterAll(async () => {
  await webhook[Symbol.asyncDispose]();
});

/** Asserts a metav1.Status as body, whose code is the HTTP status. */
function expectStatus(answer: Answer, status: number, reason: string): string {
  expect(answer).toMatchObject({
    status,
    body: { kind: 'Status', apiVersion: 'v1', status: 'Failure', code: status, reason },
  });
  return (answer.body as { message: string }).message;
}

describe('POST /mutate over HTTPS', () => {
  it('answers with a review that echoes the uid and says decision and reason for the audit log', async () => {
    const answer = await webhook.post(admissionReview(rabbitmqCluster()));
    expect(answer.status).toBe(200);
    expect(answer.headers['content-type']).toMatch(/^application\/json/);
    expect(answer.body).toEqual({
      apiVersion: 'admission.k8s.io/v1',
      kind: 'AdmissionReview',
      response: {
        uid: '705ab4f5-6393-11e8-b7cc-42010a800002',
        allowed: true,
        auditAnnotations: { decision: 'no', reason: 'not-required' },
      },
    });
  });

  it('injects the proxy by a JSON patch, and nothing more into its own result', async () => {
    const object = rabbitmqCluster({ metadata: ENABLED });
    const first = await webhook.review(admissionReview(object));
    expect(first).toMatchObject({
      allowed: true,
      patchType: 'JSONPatch',
      auditAnnotations: { decision: 'yes' },
    });
    const patch = Buffer.from(first.patch ?? '', 'base64').toString('utf8');
    expect(patch).toContain('"amqp-proxy"');
    const { default: jsonPatch } = await import('fast-json-patch');
    const patched = jsonPatch.applyPatch(structuredClone(object), JSON.parse(patch)).newDocument;
    const second = await webhook.review(
      admissionReview(patched, { operation: 'UPDATE', oldObject: object, uid: 'second' }),
    );
    expect(second).toEqual({ uid: 'second', allowed: true, auditAnnotations: first.auditAnnotations });
  });

  it('gives the same bytes for the same review', async () => {
    const review = admissionReview(rabbitmqCluster({ metadata: ENABLED }));
    const [one, two] = [await webhook.post(review), await webhook.post(review)];
    expect(one.body).toEqual(two.body);
  });

  it('is verified by the CA that it wrote, for every name and address of its own and no other', async () => {
    for (const servername of ['localhost', 'webhook.quorumbridge.svc']) {
      const answer = await webhook.post(admissionReview(rabbitmqCluster()), { servername });
      expect(answer.status).toBe(200);
    }
    await expect(webhook.post('{}', { servername: 'other.svc' })).rejects.toThrow(/altnames/);
    await expect(
      webhook.post('{}', { ca: (await makeCa({ commonName: 'x', days: 1 })).cert }),
    ).rejects.toThrow(/certificate/);
    expect(await readFile(webhook.caFile, 'utf8')).not.toContain('PRIVATE KEY');
  });

  it('does not speak TLS 1.1', async () => {
    await expect(webhook.post('{}', { maxVersion: 'TLSv1.1', minVersion: 'TLSv1' })).rejects.toThrow(
      /version|protocol/i,
    );
  });
});

describe('hostile and broken requests', () => {
  const json = { 'content-type': 'application/json' };

  it.each<[string, string | Buffer, number, string]>([
    ['nothing', '', 400, 'NotJson'],
    ['text', 'hello', 400, 'NotJson'],
    ['half a review', JSON.stringify(admissionReview(rabbitmqCluster())).slice(0, -1), 400, 'NotJson'],
    ['bytes that are not UTF-8', Buffer.from([0x7b, 0xff, 0x7d]), 400, 'NotJson'],
    ['null', 'null', 400, 'NotAnAdmissionReview'],
    ['a list', '[]', 400, 'NotAnAdmissionReview'],
    ['7 MB of nesting', '['.repeat(7_000_000), 400, 'NestedTooDeeply'],
    [
      'a kind called __proto__',
      '{"kind":"AdmissionReview","__proto__":{"apiVersion":"x"}}',
      400,
      'UnsupportedReviewVersion',
    ],
  ])('answers %s with a precise status', async (_what, body, status, reason) => {
    expectStatus(await webhook.post(body), status, reason);
  });

  it('refuses 10 MB of nesting, unread, on a connection that stays usable', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const nested = `${'{"a":'.repeat(1_700_000)}1${'}'.repeat(1_700_000)}`;
    const refused = await webhook.post(nested, { agent });
    expect(expectStatus(refused, 413, 'RequestEntityTooLarge')).toContain('8388608 bytes');
    const chunked = { ...json, 'transfer-encoding': 'chunked' };
    expectStatus(await webhook.post(nested, { agent, headers: chunked }), 413, 'RequestEntityTooLarge');
    expect((await webhook.post(admissionReview(rabbitmqCluster()), { agent })).status).toBe(200);
    agent.destroy();
  });

  it('denies nesting that JSON allows but nobody can walk', async () => {
    const nested = `${'{"a":'.repeat(9000)}1${'}'.repeat(9000)}`;
    const body = JSON.stringify(admissionReview(rabbitmqCluster({ spec: { nested: 'HERE' } }))).replace(
      '"HERE"',
      nested,
    );
    expect(await webhook.review(body)).toMatchObject({
      allowed: false,
      status: { code: 422, message: expect.stringContaining('256 levels') },
      auditAnnotations: { reason: 'nested-too-deeply' },
    });
  });

  it('takes objects as large as an API server sends them', async () => {
    const big = rabbitmqCluster({ metadata: { annotations: { big: 'x'.repeat(3_000_000) } } });
    expect(await webhook.review(admissionReview(big, { oldObject: big }))).toMatchObject({ allowed: true });
  });

  it('wants JSON, and no compression', async () => {
    const body = JSON.stringify(admissionReview(rabbitmqCluster()));
    for (const headers of [
      {},
      { 'content-type': 'text/plain' },
      { 'content-type': 'application/json-patch+json' },
    ]) {
      expectStatus(await webhook.post(body, { headers }), 415, 'UnsupportedMediaType');
    }
    const gzip = { ...json, 'content-encoding': 'gzip' };
    expect(expectStatus(await webhook.post(body, { headers: gzip }), 415, 'UnsupportedMediaType')).toContain(
      'gzip',
    );
    const charset = { 'content-type': 'application/json; charset=utf-8' };
    expect((await webhook.post(body, { headers: charset })).status).toBe(200);
  });

  it('knows two paths and one method, with or without the timeout that API servers append', async () => {
    const body = JSON.stringify(admissionReview(rabbitmqCluster()));
    expect((await webhook.post(body, { path: '/mutate?timeout=5s' })).status).toBe(200);
    expect((await webhook.post(body, { path: '/validate' })).status).toBe(200);
    expectStatus(await webhook.post(body, { path: '/' }), 404, 'NotFound');
    expectStatus(await webhook.post(body, { path: '/mutate/../mutate/' }), 404, 'NotFound');
    for (const method of ['PUT', 'DELETE', 'GET']) {
      const answer = await webhook.post(method === 'PUT' ? body : '', { method });
      expectStatus(answer, 405, 'MethodNotAllowed');
      expect(answer.headers.allow).toBe('POST');
    }
    const malformed = await webhook.post(body, { path: '/%ff%' });
    expect(malformed.status).toBe(400);
  });

  it('never answers an object of a wrong shape with an error of its own', async () => {
    const wrong = [null, 0, true, '', 'x', [], [null], [[]], {}, { a: 1 }, '__proto__'];
    const paths = [
      ['spec'],
      ['spec', 'image'],
      ['spec', 'replicas'],
      ['spec', 'tls'],
      ['spec', 'rabbitmq'],
      ['spec', 'rabbitmq', 'advancedConfig'],
      ['spec', 'rabbitmq', 'additionalConfig'],
      ['spec', 'override'],
      ['spec', 'override', 'statefulSet'],
      ['spec', 'override', 'statefulSet', 'spec', 'template'],
      ['spec', 'override', 'statefulSet', 'spec', 'template', 'spec'],
      ['spec', 'override', 'statefulSet', 'spec', 'template', 'spec', 'containers'],
      ['spec', 'override', 'statefulSet', 'spec', 'template', 'spec', 'volumes'],
      ['metadata', 'annotations', 'quorumbridge.io/status'],
    ];
    for (const path of paths) {
      for (const value of wrong) {
        const object: Record<string, unknown> = rabbitmqCluster({ metadata: structuredClone(ENABLED) });
        let at = object;
        for (const step of path.slice(0, -1)) at = (at[step] ??= {}) as Record<string, unknown>;
        at[path.at(-1) ?? ''] = value;
        const answer = await webhook.post(
          admissionReview(object, { operation: 'UPDATE', oldObject: object }),
        );
        expect(
          [200, 400],
          `${path.join('.')} = ${JSON.stringify(value)}: ${JSON.stringify(answer.body)}`,
        ).toContain(answer.status);
      }
    }
  });

  it('survives clients that speak no TLS, break off, or send no HTTP', async () => {
    const { address } = webhook.running;
    const plain = connectTcp(address);
    plain.on('error', () => {});
    plain.write('POST /mutate HTTP/1.1\r\n\r\n');
    await once(plain, 'close');

    const tls = async (): Promise<TLSSocket> => {
      const socket = connectTls({ ...address, ca: webhook.ca });
      socket.on('error', () => {});
      await once(socket, 'secureConnect');
      return socket;
    };
    const broken = await tls();
    broken.write(
      'POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{',
    );
    broken.destroy();
    await once(broken, 'close');
    const garbage = await tls();
    garbage.write('\0\x01garbage\r\n\r\n');
    expect(await text(garbage)).toMatch(/^HTTP\/1\.1 400/);

    expect(await webhook.review(admissionReview(rabbitmqCluster()))).toMatchObject({ allowed: true });
    const { body } = await httpGet(webhook.running.adminAddress, '/metrics');
    expect(body.split('\n')).toContain('quorumbridge_webhook_internal_errors_total 0');
    expect(webhook.lines.filter(({ level }) => level === 'error')).toEqual([]);
  });

  it('keeps secrets of objects out of answers and logs', async () => {
    await webhook.post('{"default_pass": "hunter2" oops');
    await webhook.review(
      admissionReview(
        rabbitmqCluster({ spec: { rabbitmq: { additionalConfig: 'default_pass = hunter2' } } }),
      ),
    );
    expect(JSON.stringify(webhook.lines)).not.toContain('hunter2');
  });
});

describe('errors of the webhook itself', () => {
  it('are HTTP 500, logged and counted, and the failurePolicy decides', async () => {
    const ca = await makeCa({ commonName: 'test', days: 1 });
    const certificate = await makeServingCertificate({ ca, dnsNames: [], ips: ['127.0.0.1'], days: 1 });
    const { log, lines } = readableLog();
    const stats = new WebhookStats();
    const server = await startServer({
      listen: { host: '127.0.0.1', port: 0 },
      certificate,
      admission: {
        mutate() {
          throw new TypeError('a bug');
        },
        owners: undefined,
        natives: undefined,
        clients: { check: 'off', ledgers: undefined },
        settings: { image: 'x' },
        log,
        stats,
      },
    });
    try {
      const post = (body: unknown): Promise<Answer> =>
        https(server.address, ca.cert, {
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify(body),
        });
      const message = expectStatus(await post(admissionReview(rabbitmqCluster())), 500, 'InternalError');
      expect(message).not.toContain('a bug');
      expect(stats.internalErrors).toBe(1);
      expect(lines).toMatchObject([{ level: 'error', err: { type: 'TypeError', message: 'a bug' } }]);

      const deletion = await post(
        admissionReview(null, { operation: 'DELETE', oldObject: rabbitmqCluster() }),
      );
      expect((deletion.body as ReviewAnswer).response).toMatchObject({ allowed: true });
      const deletionTimestamp = '2026-01-01T00:00:00Z';
      const finalizing = await post(admissionReview(rabbitmqCluster({ metadata: { deletionTimestamp } })));
      expect((finalizing.body as ReviewAnswer).response).toEqual({
        uid: '705ab4f5-6393-11e8-b7cc-42010a800002',
        allowed: true,
        auditAnnotations: { decision: 'keep', reason: 'deleting' },
      });
    } finally {
      await server.close();
    }
  });
});

describe('what the webhook tells of its work', () => {
  it('logs each admission with its subject, answer and reason', async () => {
    webhook.lines.length = 0;
    await webhook.post(
      admissionReview(rabbitmqCluster({ metadata: ENABLED }), { uid: 'log-1', dryRun: true }),
    );
    expect(webhook.lines).toMatchObject([
      {
        level: 'info',
        msg: 'admission',
        uid: 'log-1',
        operation: 'CREATE',
        kind: 'RabbitmqCluster',
        namespace: 'openstack',
        name: 'rabbitmq',
        dryRun: true,
        answer: 'patched',
        decision: 'yes',
        reason: 'enable-proxy',
        ms: expect.any(Number),
      },
    ]);
  });

  it('counts admissions, decisions and bad requests, and is ready', async () => {
    await using fresh = await startTestWebhook();
    await fresh.post(admissionReview(rabbitmqCluster({ metadata: ENABLED })));
    await fresh.post(admissionReview(rabbitmqCluster()));
    await fresh.post(admissionReview(null, { operation: 'DELETE', kind: { kind: 'x'.repeat(99) } }));
    await fresh.post('oops');
    const { body } = await httpGet(fresh.running.adminAddress, '/metrics');
    const name = 'quorumbridge_webhook';
    for (const line of [
      `${name}_admissions_total{kind="RabbitmqCluster",operation="CREATE",answer="patched"} 1`,
      `${name}_admissions_total{kind="RabbitmqCluster",operation="CREATE",answer="unchanged"} 1`,
      `${name}_admissions_total{kind="other",operation="DELETE",answer="passed"} 1`,
      `${name}_decisions_total{decision="yes",reason="enable-proxy"} 1`,
      `${name}_bad_requests_total{reason="NotJson"} 1`,
      `${name}_internal_errors_total 0`,
    ]) {
      expect(body.split('\n')).toContain(line);
    }
    const notAfter = Number(
      /^quorumbridge_webhook_certificate_not_after_timestamp_seconds (\S+)/m.exec(body)?.[1],
    );
    expect(notAfter * 1000 - Date.now()).toBeGreaterThan(80 * 86_400_000);
    expect(await httpGet(fresh.running.adminAddress, '/readyz')).toMatchObject({ status: 200 });
    expect(await httpGet(fresh.running.adminAddress, '/livez')).toMatchObject({ status: 200 });
  });

  it('says at the start that it decides from the objects alone', async () => {
    await using fresh = await startTestWebhook();
    expect(fresh.lines.map(({ msg }) => msg)).toEqual([
      '--no-cluster: deciding from the objects alone',
      'webhook listening',
    ]);
  });
});

describe('the end of the webhook', () => {
  it('fails /readyz but serves on for the delay, tells clients to leave, and then ends', async () => {
    const stopping = await startTestWebhook({ shutdownDelay: '1' });
    const agent = new Agent({ keepAlive: true });
    const review = admissionReview(rabbitmqCluster());
    expect((await stopping.post(review, { agent })).headers.connection).toBe('keep-alive');
    const closed = stopping[Symbol.asyncDispose]();
    const ready = await httpGet(stopping.running.adminAddress, '/readyz');
    expect(ready).toEqual({ status: 503, body: expect.stringContaining('shutting down') });
    const late = await stopping.post(review, { agent });
    expect(late).toMatchObject({ status: 200, headers: { connection: 'close' } });
    agent.destroy();
    await closed;
    await expect(stopping.post(review)).rejects.toThrow(/ECONNREFUSED/);
  });
});
