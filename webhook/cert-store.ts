// The Secret and the registrations of the webhook in an API server.
import type { ClusterAccess } from '../common/kube/access.ts';
import { type Api, ApiFailure, connectApi } from '../common/kube/api.ts';
import { isObject, objectsAt, textAt, valueAt } from '../common/kube/json.ts';
import { openCluster } from '../common/kube/open.ts';
import type { Advise } from '../common/kube/refusal.ts';
import { MUTATING_WEBHOOKS, type Resource, SECRET, VALIDATING_WEBHOOKS } from '../common/kube/resources.ts';
import type { Json, JsonObject, KubeObject } from '../common/kube/types.ts';
import type { CertificateStore, Registration } from './cert-keeper.ts';

/** What this manager owns are the caBundles and nothing else. */
const FIELD_MANAGER = 'quorumbridge-certificates';
const TIMEOUT_MS = 10_000;

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

/** The roles of a webhook name the few objects that it may touch. */
const adviseRole: Advise = ({ verb, resource, namespace, name }) => {
  const where = namespace === undefined ? 'a ClusterRole' : `a Role in namespace ${namespace}`;
  // Rules with resourceNames do not apply to objects that are not there yet.
  const which = verb === 'create' ? '' : ` with resourceNames [${name}]`;
  return `grant the webhook's account "${verb}" on ${resource}${which}, by ${where}`;
};

/** Whether it was done; false when the object is another one by now (409), or gone (404). */
async function inTime(write: Promise<KubeObject>): Promise<boolean> {
  try {
    await write;
    return true;
  } catch (error) {
    if (error instanceof ApiFailure && (error.code === 404 || error.code === 409)) return false;
    throw error;
  }
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
  readonly resource: Resource;
  readonly name: string;
  readonly resourceVersion: string | undefined;
}

function readRegistration(resource: Resource, name: string, found: KubeObject): Registration {
  const webhooks = objectsAt(found, 'webhooks').map((webhook) => ({
    name: textAt(webhook, 'name') ?? '',
    caBundle: Buffer.from(textAt(webhook, 'clientConfig', 'caBundle') ?? '', 'base64').toString('latin1'),
  }));
  const origin: Origin = { resource, name, resourceVersion: textAt(found, 'metadata', 'resourceVersion') };
  return { id: `${resource.kind} ${name}`, webhooks, origin };
}

/** The Secret and the registrations behind an API. */
function storeOf(api: Api, { secret: { namespace, name }, registrations }: StoreSettings): CertificateStore {
  const signal = (): AbortSignal => AbortSignal.timeout(TIMEOUT_MS);
  return {
    secret: `${namespace}/${name}`,
    async readSecret() {
      const found = await api.get(SECRET, namespace, name, signal());
      if (found === undefined) return undefined;
      return {
        data: decode(valueAt(found, 'data')),
        annotations: Object.fromEntries(texts(found.metadata['annotations'])),
        origin: found,
      };
    },
    async writeSecret(before, data) {
      if (before === undefined) {
        const metadata = { namespace, name, labels: { 'app.kubernetes.io/managed-by': 'quorumbridge' } };
        const secret = { apiVersion: 'v1', kind: 'Secret', metadata, type: 'kubernetes.io/tls' };
        return (await api.create(SECRET, { ...secret, data: encode(data) }, signal())) === 'created';
      }
      // It carries the resourceVersion that was read: 409 when somebody was faster, 404 when it was deleted.
      const secret = { ...(before.origin as KubeObject), data: encode(data) };
      return inTime(api.replace(SECRET, secret, signal()));
    },
    async readRegistrations() {
      const found: Registration[] = [];
      for (const resource of [MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS]) {
        for (const one of registrations) {
          const object = await api.get(resource, undefined, one, signal());
          if (object !== undefined) found.push(readRegistration(resource, one, object));
        }
      }
      return found;
    },
    async writeBundle({ webhooks, origin }, bundle) {
      const { resource, name: one, resourceVersion } = origin as Origin;
      const caBundle = Buffer.from(bundle).toString('base64');
      // No server-side apply: it would own the entries too, of which somebody else's apply that drops one would then
      // leave a name and a caBundle, which is no valid entry (422). By the resourceVersion, entries are those that were
      // read, and a newer bundle is not lost.
      const patch = {
        metadata: resourceVersion === undefined ? {} : { resourceVersion },
        webhooks: webhooks.map((webhook) => ({ name: webhook.name, clientConfig: { caBundle } })),
      };
      const options = { type: 'strategic', manager: FIELD_MANAGER } as const;
      return inTime(api.patch(resource, { name: one }, patch, options, signal()));
    },
  };
}

/**
 * Loads the Kubernetes client for a Secret and registrations. No request is made yet.
 * @throws UsageError when the kubeconfig is not usable.
 */
export async function connectStore(cluster: ClusterAccess, settings: StoreSettings): Promise<ClusterStore> {
  const open = await openCluster(cluster);
  const store = storeOf(connectApi(open, adviseRole), settings);
  return { ...store, server: open.server, close: () => open.pool.destroy() };
}
