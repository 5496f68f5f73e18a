import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Api, ApiFailure, connectApi } from '../../../common/kube/api.ts';
import { type OpenCluster, openCluster } from '../../../common/kube/open.ts';
import { RABBITMQ, SECRET, STATEFUL_SET } from '../../../common/kube/resources.ts';
import type { KubeObject } from '../../../common/kube/types.ts';
import { type PlayedApiServer, TOKEN, apiPath, playApiServer } from '../../support/api-server.ts';

const PATH = apiPath('rabbit');
const SECRETS = '/api/v1/namespaces/openstack/secrets';
const TARGET = { namespace: 'openstack', name: 'rabbit' };

const rabbit: KubeObject = {
  apiVersion: 'rabbitmq.openstack.org/v1beta1',
  kind: 'RabbitMq',
  metadata: { ...TARGET, resourceVersion: '7' },
  spec: { replicas: 3 },
};
const secret: KubeObject = {
  apiVersion: 'v1',
  kind: 'Secret',
  metadata: TARGET,
  data: { password: 'aHVudGVyMg==' },
};

let server: PlayedApiServer;
let cluster: OpenCluster;
let api: Api;
const signal = (): AbortSignal => AbortSignal.timeout(3000);

beforeEach(async () => {
  server = await playApiServer();
  cluster = await openCluster({ from: 'kubeconfig', files: [server.kubeconfig] });
  api = connectApi(cluster);
});
afterEach(async () => {
  await cluster.pool.destroy();
  await server[Symbol.asyncDispose]();
});

/** What a request is refused with. */
async function failureOf(request: Promise<unknown>): Promise<ApiFailure> {
  const failure = await request.then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(failure).toBeInstanceOf(ApiFailure);
  return failure as ApiFailure;
}

const last = () => server.requests.at(-1)!;

describe('what is written', () => {
  it('replaces an object by PUT of the whole, and gives what is stored', async () => {
    const stored = { ...rabbit, metadata: { ...rabbit.metadata, resourceVersion: '8' } };
    server.answers.set(`PUT ${PATH}`, { object: stored });
    expect(await api.replace(RABBITMQ, rabbit, signal())).toEqual(stored);
    expect(last()).toMatchObject({ path: PATH, headers: { 'content-type': 'application/json' } });
    expect(last().body).toEqual(rabbit);
  });

  it('applies on the server under the name of its manager, whoever had the fields before', async () => {
    server.answers.set(`PATCH ${PATH}`, { object: rabbit });
    expect(await api.apply(RABBITMQ, rabbit, 'quorumbridge', signal())).toEqual(rabbit);
    expect(last().path).toBe(`${PATH}?fieldManager=quorumbridge&force=true`);
    expect(last().headers['content-type']).toBe('application/apply-patch+yaml');
    expect(last().body).toEqual(rabbit);
  });

  it('patches by RFC 7386, or by the keys of lists where it is told to', async () => {
    server.answers.set(`PATCH ${PATH}`, { object: rabbit });
    const patch = { metadata: { resourceVersion: '7' }, spec: { replicas: null } };
    await api.patch(RABBITMQ, TARGET, patch, {}, signal());
    expect(last().path).toBe(PATH);
    expect(last().headers['content-type']).toBe('application/merge-patch+json');
    expect(last().body).toEqual(patch);
    await api.patch(RABBITMQ, TARGET, patch, { type: 'strategic', manager: 'me' }, signal());
    expect(last().path).toBe(`${PATH}?fieldManager=me`);
    expect(last().headers['content-type']).toBe('application/strategic-merge-patch+json');
  });

  it('patches a status as the subresource that it is', async () => {
    server.answers.set(`PATCH ${PATH}/status`, { object: rabbit });
    await api.patch(RABBITMQ, TARGET, { status: {} }, { subresource: 'status' }, signal());
    expect(last().path).toBe(`${PATH}/status`);
    server.answers.set(`PATCH ${PATH}/status`, { status: 403 });
    const failure = await failureOf(
      api.patch(RABBITMQ, TARGET, {}, { subresource: 'status' }, AbortSignal.timeout(3000)),
    );
    expect(failure.message).toMatch(
      /grant this account "patch" on rabbitmqs\.rabbitmq\.openstack\.org\/status$/,
    );
  });

  it('removes by its preconditions, and what is gone is absent', async () => {
    server.answers.set(`DELETE ${PATH}`, { object: { kind: 'Status', status: 'Success' } });
    const options = { uid: 'u', resourceVersion: '7', gracePeriodSeconds: 0 };
    expect(await api.remove(RABBITMQ, TARGET, options, signal())).toBe('accepted');
    expect(last().body).toEqual({
      apiVersion: 'v1',
      kind: 'DeleteOptions',
      propagationPolicy: 'Background',
      preconditions: { uid: 'u', resourceVersion: '7' },
      gracePeriodSeconds: 0,
    });
    server.answers.delete(`DELETE ${PATH}`);
    expect(await api.remove(RABBITMQ, TARGET, {}, signal())).toBe('absent');
    expect(last().body).toMatchObject({ preconditions: {} });
    server.answers.set(`DELETE ${PATH}`, { status: 409, refusal: { reason: 'Conflict' } });
    expect(await failureOf(api.remove(RABBITMQ, TARGET, { uid: 'other' }, signal()))).toMatchObject({
      code: 409,
      reason: 'Conflict',
    });
  });

  it.each(['replace', 'apply', 'patch'] as const)(
    'fails to %s what is gone or another by now',
    async (how) => {
      for (const [code, reason] of [
        [404, 'NotFound'],
        [409, 'Conflict'],
      ] as const) {
        server.answers.set(PATH, { status: code, refusal: { reason } });
        const write = {
          replace: () => api.replace(RABBITMQ, rabbit, signal()),
          apply: () => api.apply(RABBITMQ, rabbit, 'me', signal()),
          patch: () => api.patch(RABBITMQ, TARGET, {}, {}, signal()),
        }[how];
        expect(await failureOf(write())).toMatchObject({ code, reason });
      }
    },
  );

  it('creates what is not there; what is there already is no failure, a conflict is one', async () => {
    const collection = PATH.replace(/\/rabbit$/, '');
    server.answers.set(`POST ${collection}`, { object: rabbit, status: 201 });
    expect(await api.create(RABBITMQ, rabbit, signal())).toBe('created');
    expect(last().body).toEqual(rabbit);
    server.answers.set(`POST ${collection}`, { status: 409, refusal: { reason: 'AlreadyExists' } });
    expect(await api.create(RABBITMQ, rabbit, signal())).toBe('exists');
    // As a quota that two requests changed at once.
    server.answers.set(`POST ${collection}`, { status: 409, refusal: { reason: 'Conflict' } });
    expect((await failureOf(api.create(RABBITMQ, rabbit, signal()))).reason).toBe('Conflict');
  });

  it('takes nothing for an object that is none', async () => {
    server.answers.set(PATH, { object: { ...rabbit, kind: 'Status' } });
    const failure = await failureOf(api.replace(RABBITMQ, rabbit, signal()));
    expect(failure.message).toMatch(/answered PUT .* openstack\/rabbit with something else$/);
  });
});

/** Words of API servers 1.34, each with a 403. */
const ADMISSION = [
  'admission webhook "deny.example.com" denied the request: replicas must be odd',
  'statefulsets.apps "rabbit" is forbidden: exceeded quota: compute, requested: count/statefulsets.apps=1, used: 2, limited: 2',
  'pods "rabbit-0" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true',
  'statefulsets.apps "rabbit" is forbidden: unable to create new content in namespace openstack because it is being terminated',
  'statefulsets.apps "rabbit" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers to a resource you can\'t set finalizers on',
  "statefulsets.apps \"rabbit\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no",
];

describe('what a refusal says', () => {
  const set: KubeObject = { apiVersion: 'apps/v1', kind: 'StatefulSet', metadata: TARGET };
  const SETS = '/apis/apps/v1/namespaces/openstack/statefulsets';

  it.each(ADMISSION)('is what admission says of it, not a right that is there: %s', async (message) => {
    server.answers.set(SETS, { status: 403, refusal: { reason: 'Forbidden', message } });
    expect(await failureOf(api.create(STATEFUL_SET, set, signal()))).toMatchObject({
      message: `the API server answered 403 to POST statefulsets.apps openstack/rabbit: ${message}`,
      code: 403,
      reason: 'Forbidden',
    });
  });

  it('is the right that is missing, by the verb that the API server names', async () => {
    server.answers.set(`GET ${PATH}`, { status: 403 });
    expect((await failureOf(api.get(RABBITMQ, 'openstack', 'rabbit', signal()))).message).toMatch(
      /403 to GET rabbitmqs\.\S+ openstack\/rabbit: grant this account "get" on rabbitmqs\.rabbitmq\.openstack\.org$/,
    );
    // An apply that would create.
    const cannot = `User "u" cannot create resource "rabbitmqs" in API group "rabbitmq.openstack.org" in the namespace "openstack"`;
    const message = `rabbitmqs.rabbitmq.openstack.org "rabbit" is forbidden: ${cannot}`;
    server.answers.set(`PATCH ${PATH}`, { status: 403, refusal: { message } });
    const failure = await failureOf(api.apply(RABBITMQ, rabbit, 'me', signal()));
    expect(failure.message).toMatch(/: grant this account "create" on rabbitmqs/);
  });

  it.each([
    [403, { raw: '<html>' }],
    [403, { object: {} }],
  ])('is the right for the verb asked where %i comes without words', async (status, answer) => {
    server.answers.set(PATH, 'raw' in answer ? { object: answer.raw, status } : { ...answer, status });
    const failure = await failureOf(api.get(RABBITMQ, 'openstack', 'rabbit', signal()));
    expect(failure.message).toMatch(/: grant this account "get" on/);
  });

  it('is no right where the account itself is not known', async () => {
    server.answers.set(PATH, { status: 401, refusal: { message: 'Unauthorized' } });
    const failure = await failureOf(api.get(RABBITMQ, 'openstack', 'rabbit', signal()));
    expect(failure.message).toMatch(
      /401 to GET .*: this account's token or certificate is not accepted: renew it$/,
    );
    expect(failure.message).not.toContain(TOKEN);
  });

  it('is cut to a bound', async () => {
    server.answers.set(PATH, { status: 422, refusal: { message: 'x'.repeat(100_000) } });
    const { message } = await failureOf(api.replace(RABBITMQ, rabbit, signal()));
    expect(message).toMatch(/: x{500}$/);
  });
});

describe('what a refusal says of a Secret', () => {
  const says = 'Secret "rabbit" is invalid: data[password]: Invalid value: "hunter2"';

  it('names the fields, and nothing that is in them', async () => {
    const causes = [
      { field: 'data[password]', reason: 'FieldValueInvalid', message: 'Invalid value: "hunter2"' },
      { field: 'type', message: 'Invalid value: "hunter2"' },
    ];
    const refusal = { reason: 'Invalid', message: says, details: { causes } };
    server.answers.set(`PUT ${SECRETS}/rabbit`, { status: 422, refusal });
    const { message } = await failureOf(api.replace(SECRET, secret, signal()));
    expect(message).toBe(
      'the API server answered 422 to PUT secrets openstack/rabbit: Invalid (data[password], type)',
    );
  });

  it.each([
    ['POST', SECRETS, () => api.create(SECRET, secret, signal())],
    ['PUT', `${SECRETS}/rabbit`, () => api.replace(SECRET, secret, signal())],
    ['PATCH', `${SECRETS}/rabbit`, () => api.apply(SECRET, secret, 'me', signal())],
    ['PATCH', `${SECRETS}/rabbit`, () => api.patch(SECRET, TARGET, { data: {} }, {}, signal())],
    ['DELETE', `${SECRETS}/rabbit`, () => api.remove(SECRET, TARGET, {}, signal())],
    ['GET', `${SECRETS}/rabbit`, () => api.get(SECRET, 'openstack', 'rabbit', signal())],
    ['GET', SECRETS, () => api.list(SECRET, { namespace: 'openstack' }, signal())],
  ])('is never what the API server says: %s %s', async (method, path, ask) => {
    for (const [status, message] of [
      [422, says],
      [403, 'admission webhook "w" denied the request: hunter2'],
      [500, 'hunter2'],
    ] as const) {
      server.answers.set(`${method} ${path}`, { status, refusal: { message, reason: 'Why' } });
      const failure = await failureOf(ask());
      expect(failure.message).toMatch(/ secrets openstack\S*: Why$/);
    }
    server.answers.set(`${method} ${path}`, { raw: '{"data": hunter2' });
    expect((await failureOf(ask())).message).toMatch(/ failed: the answer is not valid JSON$/);
  });

  it('is not what ends a watch, either', async () => {
    const watched = api.watch(
      SECRET,
      { namespace: 'openstack', resourceVersion: '1' },
      {
        onOpen: () => server.watches[0]!.send('ERROR', { code: 410, reason: 'Expired', message: 'hunter2' }),
        onEvent: () => {},
      },
      signal(),
    );
    expect(await failureOf(watched)).toMatchObject({
      message: 'the API server answered 410 to GET secrets openstack: Expired',
      code: 410,
    });
  });
});
