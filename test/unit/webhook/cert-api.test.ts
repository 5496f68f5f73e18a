import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { makeCa, makeServingCertificate } from '../../../certs/certificates.ts';
import { type ClusterStore, connectStore } from '../../../webhook/cert-store.ts';
import { MountedSecret } from '../../support/mounted-secret.ts';

interface Asked {
  /** Method and path with its query. */
  what: string;
  type: string | undefined;
  body: unknown;
}

const SECRET = '/api/v1/namespaces/system/secrets/cert';
const ADMISSION = '/apis/admissionregistration.k8s.io/v1';
const MUTATING = `${ADMISSION}/mutatingwebhookconfigurations/quorumbridge`;
const VALIDATING = `${ADMISSION}/validatingwebhookconfigurations/quorumbridge`;
const APPLY = 'fieldManager=quorumbridge-certificates&force=true';

let asked: Asked[];
/** Status code and body by method and path; what is not listed is 404. */
let answers: Record<string, [code: number, body: unknown]>;
let store: ClusterStore;
let cleanup: AsyncDisposableStack;

beforeEach(async () => {
  asked = [];
  answers = {};
  cleanup = new AsyncDisposableStack();
  const ca = await makeCa({ commonName: 'cluster', days: 1 });
  const tls = await makeServingCertificate({ ca, dnsNames: [], ips: ['127.0.0.1'], days: 1 });
  const server = createServer(tls, (request, response) => {
    const answer = async (): Promise<void> => {
      const sent = await text(request);
      const what = `${request.method} ${request.url}`;
      asked.push({
        what,
        type: request.headers['content-type'],
        body: sent === '' ? undefined : JSON.parse(sent),
      });
      const [code, body] = answers[what] ?? [404, { kind: 'Status', message: 'not found' }];
      response.writeHead(code, { 'content-type': 'application/json' });
      response.end(typeof body === 'string' ? body : JSON.stringify(body));
    };
    void answer();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanup.defer(() => {
    server.closeAllConnections();
    server.close();
  });
  const folder = cleanup.use(new MountedSecret((await MountedSecret.mount({})).folder));
  const file = join(folder.folder, 'kubeconfig');
  const { port } = server.address() as AddressInfo;
  await writeFile(
    file,
    JSON.stringify({
      clusters: [
        {
          name: 'c',
          cluster: {
            server: `https://127.0.0.1:${port}/`,
            'certificate-authority-data': Buffer.from(ca.cert).toString('base64'),
          },
        },
      ],
      users: [{ name: 'u', user: { token: 'hunter2' } }],
      contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
      'current-context': 'x',
    }),
  );
  store = await connectStore(
    { from: 'kubeconfig', files: [file] },
    { secret: { namespace: 'system', name: 'cert' }, registrations: ['quorumbridge'] },
  );
  cleanup.defer(() => store.close());
});

afterEach(async () => {
  await cleanup.disposeAsync();
});

const base64 = (value: string): string => Buffer.from(value).toString('base64');

const stored = {
  apiVersion: 'v1',
  kind: 'Secret',
  metadata: { namespace: 'system', name: 'cert', resourceVersion: '7', annotations: { a: 'b' } },
  type: 'Opaque',
  data: { 'tls.crt': base64('old') },
};

describe('the Secret in an API server', () => {
  it('is created when there is none, and whoever comes second has lost', async () => {
    expect(await store.readSecret()).toBeUndefined();
    answers['POST /api/v1/namespaces/system/secrets'] = [201, stored];
    expect(await store.writeSecret(undefined, { 'tls.crt': 'new' })).toBe(true);
    expect(asked.at(-1)).toEqual({
      what: 'POST /api/v1/namespaces/system/secrets',
      type: 'application/json',
      body: {
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: {
          namespace: 'system',
          name: 'cert',
          labels: { 'app.kubernetes.io/managed-by': 'quorumbridge' },
        },
        type: 'kubernetes.io/tls',
        data: { 'tls.crt': base64('new') },
      },
    });
    answers['POST /api/v1/namespaces/system/secrets'] = [409, { message: 'exists' }];
    expect(await store.writeSecret(undefined, {})).toBe(false);
  });

  it('is replaced as it was read but for its data, and not when somebody was faster or it is gone', async () => {
    answers[`GET ${SECRET}`] = [200, stored];
    const read = await store.readSecret();
    expect(read).toMatchObject({ data: { 'tls.crt': 'old' }, annotations: { a: 'b' } });
    answers[`PUT ${SECRET}`] = [200, stored];
    expect(await store.writeSecret(read, { 'tls.crt': 'new' })).toBe(true);
    expect(asked.at(-1)?.body).toEqual({ ...stored, data: { 'tls.crt': base64('new') } });
    for (const code of [404, 409]) {
      answers[`PUT ${SECRET}`] = [code, { message: 'no' }];
      expect(await store.writeSecret(read, {})).toBe(false);
    }
  });
});

const registration = {
  kind: 'MutatingWebhookConfiguration',
  metadata: { name: 'quorumbridge', resourceVersion: '9' },
  webhooks: [
    { name: 'one', clientConfig: { caBundle: base64('old'), service: { name: 's' } }, failurePolicy: 'Fail' },
    { name: 'two', clientConfig: { service: { name: 's' } } },
  ],
};

describe('registrations in an API server', () => {
  it('are those of both kinds that exist, with the caBundle of each webhook', async () => {
    expect(await store.readRegistrations()).toEqual([]);
    answers[`GET ${MUTATING}`] = [200, registration];
    answers[`GET ${VALIDATING}`] = [200, { ...registration, webhooks: [] }];
    expect(await store.readRegistrations()).toMatchObject([
      {
        id: 'MutatingWebhookConfiguration quorumbridge',
        webhooks: [
          { name: 'one', caBundle: 'old' },
          { name: 'two', caBundle: '' },
        ],
      },
      { id: 'ValidatingWebhookConfiguration quorumbridge', webhooks: [] },
    ]);
  });

  it('get their caBundle by server-side apply of nothing else, and only as they were read', async () => {
    answers[`GET ${MUTATING}`] = [200, registration];
    const [read] = await store.readRegistrations();
    answers[`PATCH ${MUTATING}?${APPLY}`] = [200, registration];
    expect(await store.writeBundle(read!, 'new')).toBe(true);
    const clientConfig = { caBundle: base64('new') };
    expect(asked.at(-1)).toEqual({
      what: `PATCH ${MUTATING}?${APPLY}`,
      type: 'application/apply-patch+yaml',
      body: {
        apiVersion: 'admissionregistration.k8s.io/v1',
        kind: 'MutatingWebhookConfiguration',
        metadata: { name: 'quorumbridge', resourceVersion: '9' },
        webhooks: [
          { name: 'one', clientConfig },
          { name: 'two', clientConfig },
        ],
      },
    });
    answers[`PATCH ${MUTATING}?${APPLY}`] = [409, { message: 'modified' }];
    expect(await store.writeBundle(read!, 'new')).toBe(false);
  });
});

describe('what an API server refuses', () => {
  it('is an error that names verb, object and kind of role', async () => {
    const denied: [number, unknown] = [403, { message: 'forbidden' }];
    answers[`GET ${SECRET}`] = denied;
    await expect(store.readSecret()).rejects.toThrow(
      `the API server answered 403 to get secrets system/cert: grant the webhook's account "get" on secrets with resourceNames [cert], by a Role in namespace system`,
    );
    answers['POST /api/v1/namespaces/system/secrets'] = denied;
    await expect(store.writeSecret(undefined, {})).rejects.toThrow(
      /"create" on secrets, by a Role in namespace system$/,
    );
    answers[`PUT ${SECRET}`] = [401, {}];
    const before = { data: {}, annotations: {}, origin: stored };
    await expect(store.writeSecret(before, {})).rejects.toThrow(/401 .*"update" on secrets with/);
    answers[`GET ${VALIDATING}`] = denied;
    await expect(store.readRegistrations()).rejects.toThrow(
      /"get" on validatingwebhookconfigurations.admissionregistration.k8s.io with resourceNames \[quorumbridge\], by a ClusterRole$/,
    );
  });

  it("comes with the API server's own words where it is no matter of rights, cut to a bound", async () => {
    answers[`PUT ${SECRET}`] = [422, { message: `field is immutable ${'x'.repeat(10_000)}` }];
    const error = await store
      .writeSecret({ data: {}, annotations: {}, origin: stored }, {})
      .catch((thrown: unknown) => String(thrown));
    expect(error).toMatch(/answered 422 to update secrets system\/cert: field is immutable x+$/);
    expect(String(error).length).toBeLessThan(700);
  });

  it('is an error too where the answer is no object, or where there is none', async () => {
    answers[`GET ${SECRET}`] = [200, 'not JSON'];
    await expect(store.readSecret()).rejects.toThrow(/what came back is no object/);
    await store.close();
    await cleanup.disposeAsync();
    const error = await store.readSecret().catch((thrown: unknown) => String(thrown));
    expect(error).toMatch(/get secrets cert failed: /);
    expect(error).not.toContain('hunter2');
  });
});
