import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type ClusterStore, connectStore } from '../../../webhook/cert-store.ts';
import { type PlayedApiServer, TOKEN, playApiServer } from '../../support/api-server.ts';

const SECRETS = '/api/v1/namespaces/system/secrets';
const SECRET = `${SECRETS}/cert`;
const ADMISSION = '/apis/admissionregistration.k8s.io/v1';
const MUTATING = `${ADMISSION}/mutatingwebhookconfigurations/quorumbridge`;
const VALIDATING = `${ADMISSION}/validatingwebhookconfigurations/quorumbridge`;

let server: PlayedApiServer;
let store: ClusterStore;

beforeEach(async () => {
  server = await playApiServer();
  store = await connectStore(
    { from: 'kubeconfig', files: [server.kubeconfig] },
    { secret: { namespace: 'system', name: 'cert' }, registrations: ['quorumbridge'] },
  );
});

afterEach(async () => {
  await store.close();
  await server[Symbol.asyncDispose]();
});

/** What is answered to a method and path; what is not listed is 404. */
function answer(what: string, object: unknown, status = 200): void {
  server.answers.set(what, { object, status });
}

function refuse(what: string, status: number, refusal: Record<string, unknown> = {}): void {
  server.answers.set(what, { status, refusal });
}

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
    answer(`POST ${SECRETS}`, stored, 201);
    expect(await store.writeSecret(undefined, { 'tls.crt': 'new' })).toBe(true);
    expect(server.requests.at(-1)).toMatchObject({
      headers: { 'content-type': 'application/json' },
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
    refuse(`POST ${SECRETS}`, 409, { reason: 'AlreadyExists' });
    expect(await store.writeSecret(undefined, {})).toBe(false);
  });

  it('is replaced as it was read but for its data, and not when somebody was faster or it is gone', async () => {
    answer(`GET ${SECRET}`, stored);
    const read = await store.readSecret();
    expect(read).toMatchObject({ data: { 'tls.crt': 'old' }, annotations: { a: 'b' } });
    answer(`PUT ${SECRET}`, stored);
    expect(await store.writeSecret(read, { 'tls.crt': 'new' })).toBe(true);
    expect(server.requests.at(-1)?.body).toEqual({ ...stored, data: { 'tls.crt': base64('new') } });
    for (const code of [404, 409]) {
      refuse(`PUT ${SECRET}`, code);
      expect(await store.writeSecret(read, {})).toBe(false);
    }
  });
});

const registration = {
  apiVersion: 'admissionregistration.k8s.io/v1',
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
    answer(`GET ${MUTATING}`, registration);
    answer(`GET ${VALIDATING}`, { ...registration, kind: 'ValidatingWebhookConfiguration', webhooks: [] });
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

  it('get their caBundle by a patch of nothing else, and only as they were read', async () => {
    answer(`GET ${MUTATING}`, registration);
    const [read] = await store.readRegistrations();
    answer(`PATCH ${MUTATING}`, registration);
    expect(await store.writeBundle(read!, 'new')).toBe(true);
    const clientConfig = { caBundle: base64('new') };
    expect(server.requests.at(-1)).toMatchObject({
      path: `${MUTATING}?fieldManager=quorumbridge-certificates`,
      headers: { 'content-type': 'application/strategic-merge-patch+json' },
    });
    expect(server.requests.at(-1)!.body).toEqual({
      metadata: { resourceVersion: '9' },
      webhooks: [
        { name: 'one', clientConfig },
        { name: 'two', clientConfig },
      ],
    });
    for (const code of [404, 409]) {
      refuse(`PATCH ${MUTATING}`, code);
      expect(await store.writeBundle(read!, 'new')).toBe(false);
    }
  });
});

describe('what an API server refuses', () => {
  const before = { data: {}, annotations: {}, origin: stored };

  it('is an error that names verb, object and kind of role', async () => {
    refuse(`GET ${SECRET}`, 403);
    await expect(store.readSecret()).rejects.toThrow(
      `the API server answered 403 to GET secrets system/cert: grant the webhook's account "get" on secrets with resourceNames [cert], by a Role in namespace system`,
    );
    refuse(`POST ${SECRETS}`, 403);
    await expect(store.writeSecret(undefined, {})).rejects.toThrow(
      /403 to POST secrets system\/cert: .*"create" on secrets, by a Role in namespace system$/,
    );
    refuse(`PUT ${SECRET}`, 403);
    await expect(store.writeSecret(before, {})).rejects.toThrow(/403 .*"update" on secrets with/);
    refuse(`GET ${VALIDATING}`, 403);
    await expect(store.readRegistrations()).rejects.toThrow(
      /"get" on validatingwebhookconfigurations.admissionregistration.k8s.io with resourceNames \[quorumbridge\], by a ClusterRole$/,
    );
  });

  it("comes with the API server's own words where it is no matter of rights", async () => {
    answer(`GET ${MUTATING}`, registration);
    const [read] = await store.readRegistrations();
    refuse(`PATCH ${MUTATING}`, 422, { reason: 'Invalid', message: 'webhooks[0]: no' });
    await expect(store.writeBundle(read!, 'new')).rejects.toThrow(
      /answered 422 to PATCH mutatingweb\S+ quorumbridge: webhooks\[0\]: no$/,
    );
  });

  it('is an error too where the answer is no object, or where there is none', async () => {
    server.answers.set(`GET ${SECRET}`, { raw: 'not JSON' });
    await expect(store.readSecret()).rejects.toThrow(/GET secrets system\/cert failed: .*not valid JSON/);
    await server[Symbol.asyncDispose]();
    const error = await store.readSecret().catch((thrown: unknown) => String(thrown));
    expect(error).toMatch(/GET secrets system\/cert failed: /);
    expect(error).not.toContain(TOKEN);
  });
});
