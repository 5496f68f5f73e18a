// The Secret and the registrations of the webhook in an API server.
import { messageOf } from '../common/errors.ts';
import type { ClusterAccess } from '../common/kube/access.ts';
import type { CertificateStore, Registration } from './cert-keeper.ts';
import { isObject, objectsAt, textAt, valueAt } from '../common/kube/json.ts';
import { type OpenCluster, openCluster } from '../common/kube/open.ts';
import type { Json, JsonObject } from '../common/kube/types.ts';

const GROUP = 'admissionregistration.k8s.io';
/** Fields that this manager owns are the caBundles and nothing else. */
const FIELD_MANAGER = 'quorumbridge-certificates';
const TIMEOUT_MS = 10_000;
const KINDS = ['MutatingWebhookConfiguration', 'ValidatingWebhookConfiguration'] as const;

export interface StoreSettings {
  readonly secret: { readonly namespace: string; readonly name: string };
  /** Names of MutatingWebhookConfigurations and ValidatingWebhookConfigurations. */
  readonly registrations: readonly string[];
}

export interface ClusterStore extends CertificateStore {
  /** The API server's address. */
  readonly server: string;
  close(): Promise<void>;
}

/** What is done to which object, as RBAC has it. */
interface Deed {
  readonly verb: 'get' | 'create' | 'update' | 'patch';
  readonly resource: string;
  readonly name: string;
  readonly namespace?: string;
  readonly path: string;
}

const METHOD = { get: 'GET', create: 'POST', update: 'PUT', patch: 'PATCH' } as const;

/** One request; undefined where the status code is one of `fine`, which are no errors there. */
type Perform = (deed: Deed, fine: readonly number[], body?: Json) => Promise<Json | undefined>;

function refused(
  { verb, resource, name, namespace }: Deed,
  code: number,
  message: string | undefined,
): Error {
  const what = `${verb} ${resource} ${namespace === undefined ? name : `${namespace}/${name}`}`;
  if (code === 401 || code === 403) {
    const where = namespace === undefined ? 'a ClusterRole' : `a Role in namespace ${namespace}`;
    // Rules with resourceNames do not apply to objects that are not there yet.
    const which = verb === 'create' ? '' : ` with resourceNames [${name}]`;
    return new Error(
      `the API server answered ${code} to ${what}: grant the webhook's account "${verb}" on ${resource}${which}, by ${where}`,
    );
  }
  return new Error(
    `the API server answered ${code} to ${what}${message === undefined ? '' : `: ${message.slice(0, 500)}`}`,
  );
}

function parse(text: string): Json | undefined {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return undefined;
  }
}

function performer({ client, config, server }: OpenCluster): Perform {
  const library = new client.IsomorphicFetchHttpLibrary();
  return async (deed, fine, body) => {
    const url = `${server.replace(/\/+$/, '')}${deed.path}`;
    let code: number;
    let answer: Json | undefined;
    try {
      const context = new client.RequestContext(url, client.HttpMethod[METHOD[deed.verb]]);
      context.setHeaderParam('Accept', 'application/json');
      if (body !== undefined) {
        const type = deed.verb === 'patch' ? 'application/apply-patch+yaml' : 'application/json';
        context.setHeaderParam('Content-Type', type);
        context.setBody(JSON.stringify(body));
      }
      await config.applySecurityAuthentication(context);
      context.setSignal(AbortSignal.timeout(TIMEOUT_MS));
      const response = await library.send(context).toPromise();
      code = response.httpStatusCode;
      answer = parse(await response.body.text());
    } catch (error) {
      throw new Error(`${deed.verb} ${deed.resource} ${deed.name} failed: ${messageOf(error)}`, {
        cause: error,
      });
    }
    if (fine.includes(code)) return undefined;
    if (code >= 300) throw refused(deed, code, textAt(answer, 'message'));
    if (!isObject(answer)) throw refused(deed, code, 'what came back is no object');
    return answer;
  };
}

/** The texts of an object; what is none is left out. */
function texts(value: Json | undefined): [string, string][] {
  const entries = isObject(value) ? Object.entries(value) : [];
  return entries.filter((entry): entry is [string, string] => typeof entry[1] === 'string');
}

function decode(data: Json | undefined): Record<string, string> {
  return Object.fromEntries(
    texts(data).map(([key, value]) => [key, Buffer.from(value, 'base64').toString('utf8')]),
  );
}

function encode(data: Readonly<Record<string, string>>): JsonObject {
  return Object.fromEntries(
    Object.entries(data).map(([key, value]) => [key, Buffer.from(value).toString('base64')]),
  );
}

/** How a registration is asked for and found again. */
interface Origin {
  readonly kind: (typeof KINDS)[number];
  readonly name: string;
  readonly resourceVersion: string | undefined;
}

function registrationDeed(verb: 'get' | 'patch', { kind, name }: Pick<Origin, 'kind' | 'name'>): Deed {
  const plural = `${kind.toLowerCase()}s`;
  const query = verb === 'patch' ? `?fieldManager=${FIELD_MANAGER}&force=true` : '';
  const path = `/apis/${GROUP}/v1/${plural}/${encodeURIComponent(name)}${query}`;
  return { verb, resource: `${plural}.${GROUP}`, name, path };
}

function readRegistration(kind: Origin['kind'], name: string, found: Json): Registration {
  const webhooks = objectsAt(found, 'webhooks').map((webhook) => ({
    name: textAt(webhook, 'name') ?? '',
    caBundle: Buffer.from(textAt(webhook, 'clientConfig', 'caBundle') ?? '', 'base64').toString('latin1'),
  }));
  const origin: Origin = { kind, name, resourceVersion: textAt(found, 'metadata', 'resourceVersion') };
  return { id: `${kind} ${name}`, webhooks, origin };
}

/**
 * Loads the Kubernetes client for a Secret and registrations. No request is made yet.
 * @throws UsageError when the kubeconfig is not usable.
 */
export async function connectStore(cluster: ClusterAccess, settings: StoreSettings): Promise<ClusterStore> {
  const open = await openCluster(cluster);
  const perform = performer(open);
  const { namespace, name } = settings.secret;
  const collection = `/api/v1/namespaces/${encodeURIComponent(namespace)}/secrets`;
  const secretDeed = (verb: Deed['verb']): Deed => {
    const path = verb === 'create' ? collection : `${collection}/${encodeURIComponent(name)}`;
    return { verb, resource: 'secrets', name, namespace, path };
  };
  return {
    server: open.server,
    secret: `${namespace}/${name}`,
    async readSecret() {
      const found = await perform(secretDeed('get'), [404]);
      if (found === undefined) return undefined;
      return {
        data: decode(valueAt(found, 'data')),
        annotations: Object.fromEntries(texts(valueAt(found, 'metadata', 'annotations'))),
        origin: found,
      };
    },
    async writeSecret(before, data) {
      if (before === undefined) {
        const metadata = { namespace, name, labels: { 'app.kubernetes.io/managed-by': 'quorumbridge' } };
        const secret = { apiVersion: 'v1', kind: 'Secret', metadata, type: 'kubernetes.io/tls' };
        return (await perform(secretDeed('create'), [409], { ...secret, data: encode(data) })) !== undefined;
      }
      // It carries the resourceVersion that was read: 409 when somebody was faster, 404 when it was deleted.
      const secret = { ...(before.origin as JsonObject), data: encode(data) };
      return (await perform(secretDeed('update'), [404, 409], secret)) !== undefined;
    },
    async readRegistrations() {
      const found: Registration[] = [];
      for (const kind of KINDS) {
        for (const one of settings.registrations) {
          const object = await perform(registrationDeed('get', { kind, name: one }), [404]);
          if (object !== undefined) found.push(readRegistration(kind, one, object));
        }
      }
      return found;
    },
    async writeBundle({ webhooks, origin }, bundle) {
      const { kind, name: one, resourceVersion } = origin as Origin;
      const caBundle = Buffer.from(bundle).toString('base64');
      // By the resourceVersion an object that was deleted is not made anew, and a newer bundle not lost.
      const written = await perform(registrationDeed('patch', { kind, name: one }), [404, 409], {
        apiVersion: `${GROUP}/v1`,
        kind,
        metadata: { name: one, ...(resourceVersion === undefined ? {} : { resourceVersion }) },
        webhooks: webhooks.map((webhook) => ({ name: webhook.name, clientConfig: { caBundle } })),
      });
      return written !== undefined;
    },
    close: () => open.pool.destroy(),
  };
}
