// What an upgrade saves before it deletes anything: Secrets with the credentials of the default user, the cluster as it
// was, and the broker's definitions. The index comes last and names the rest, so that half a backup is none.
import { gunzipSync, gzipSync } from 'node:zlib';
import { createHash } from 'node:crypto';
import { PREFIX } from '../common/contract.ts';
import type { Api } from '../common/kube/api.ts';
import { isObject, objectsAt, textAt, valueAt } from '../common/kube/json.ts';
import { SECRET } from '../common/kube/resources.ts';
import type { Json, JsonObject, KubeObject } from '../common/kube/types.ts';
import type { BrokerExport } from './broker/access.ts';
import { isDefinitions } from './broker/definitions.ts';
import { parseExact } from './broker/exact-json.ts';
import {
  BackupFailure,
  isOf,
  metaOf,
  namesOf,
  ownedObject,
  replace,
  type UpgradeRef,
  write,
} from './saved-objects.ts';
import type { BackupRecord, HoldingQueue, ObservedBackup, UpgradeRecord } from './types.ts';

export interface BackupContent extends BrokerExport {
  readonly rabbitmq: KubeObject;
  /** The RabbitmqCluster that is to be replaced. */
  readonly cluster: KubeObject;
  /** The Secret NAME-default-user. */
  readonly defaultUser: KubeObject;
  readonly record: UpgradeRecord;
  readonly now: Date;
}

/** A backup, read back whole. */
export interface SavedBackup {
  readonly record: BackupRecord;
  /** Numbers are exact. */
  readonly definitions: JsonObject;
  /** The RabbitmqCluster: apiVersion, kind, spec, and of metadata the name, labels, annotations and owners. */
  readonly cluster: KubeObject;
  /** The default user's Secret as text, by key. */
  readonly defaultUser: Readonly<Record<string, string>>;
  /** Queues whose messages the wipe loses. */
  readonly holding: readonly HoldingQueue[];
}

const FORMAT_VERSION = 1;
/** Of a Secret with definitions; a Secret has at most 1 MiB. */
const CHUNK_BYTES = 700 * 1024;
const CHUNKS_MAX = 64;
const SECRET_MAX = 1024 * 1024;
/** What 64 Secrets are unpacked to at most: no broker exports more than its management API is read. */
const DEFINITIONS_MAX = 256 * 2 ** 20;
/** Queues that the index names. */
const HOLDING_MAX = 500;

/**
 * Saves everything, and reads it back. It can be cut off anywhere and be called again: what it wrote before is used or
 * replaced, for the definitions go into the Secrets that the index does not name, and the index comes last. The credentials
 * are written once for an upgrade and never again.
 * @throws BackupFailure where what is there already is not to be overwritten, or something is too large
 */
export async function writeBackup(
  api: Api,
  content: BackupContent,
  signal: AbortSignal,
): Promise<BackupRecord> {
  const { rabbitmq, cluster, defaultUser, record, definitions, inventory, now } = content;
  const at = (key: string): string => metaOf(rabbitmq, key) ?? '';
  const name = at('name');
  const ref = { namespace: at('namespace'), name, uid: at('uid'), sequence: record.sequence };
  if (metaOf(cluster, 'uid') !== record.clusterUid) {
    throw new BackupFailure(
      'the RabbitmqCluster is another one than the upgrade began with: nothing is saved',
    );
  }
  const chunks = chunksOf(await freePart(api, ref, signal), definitions.text);
  const index = {
    formatVersion: FORMAT_VERSION,
    sequence: record.sequence,
    clusterUid: record.clusterUid,
    takenAt: now.toISOString(),
    brokerVersion: definitions.brokerVersion,
    counts: { ...definitions.counts },
    sha256: definitions.sha256,
    chunks: chunks.map((chunk) => chunk.name),
    messages: inventory.messages,
    queues: inventory.holding.length,
    holding: inventory.holding.slice(0, HOLDING_MAX).map((queue) => ({ ...queue })),
  };
  const files = { 'index.json': JSON.stringify(index), 'cluster.json': JSON.stringify(snapshotOf(cluster)) };
  const size = Object.values(files).reduce((sum, text) => sum + Buffer.byteLength(text), 0);
  if (size > SECRET_MAX) {
    throw new BackupFailure(`the RabbitmqCluster has ${size} octets, more than the 1 MiB of a Secret`);
  }
  const make = (objectName: string, data: Readonly<Record<string, Buffer | string>>): KubeObject => ({
    ...ownedObject(SECRET, rabbitmq, record.sequence, objectName),
    type: 'Opaque',
    data: encoded(data),
  });

  await writeCredentials(api, ref, defaultUser, make, signal);
  for (const { name: chunkName, octets } of chunks) {
    await write(api, SECRET, make(chunkName, { 'definitions.json.gz': octets }), signal);
  }
  await write(api, SECRET, make(namesOf(ref).index, files), signal);
  const observed = await readBackup(api, ref, signal);
  if (observed.state !== 'complete') {
    const why = observed.state === 'absent' ? 'it is not there' : observed.why;
    throw new BackupFailure(`what was saved cannot be read back: ${why}`);
  }
  return observed.record;
}

/** Of an upgrade, whether everything is there and is what the index says. */
export async function readBackup(api: Api, ref: UpgradeRef, signal: AbortSignal): Promise<ObservedBackup> {
  try {
    const saved = await read(api, ref, signal);
    return saved === undefined ? { state: 'absent' } : { state: 'complete', record: saved.record };
  } catch (error) {
    if (error instanceof BackupFailure) return { state: 'incomplete', why: error.message };
    throw error;
  }
}

/** @throws BackupFailure where something is missing or not what the index says */
export async function readSaved(api: Api, ref: UpgradeRef, signal: AbortSignal): Promise<SavedBackup> {
  const saved = await read(api, ref, signal);
  if (saved === undefined) throw new BackupFailure(`Secret ${namesOf(ref).index} does not exist`);
  return saved;
}

function encoded(data: Readonly<Record<string, Buffer | string>>): JsonObject {
  return Object.fromEntries(
    Object.entries(data).map(([key, value]) => [key, Buffer.from(value).toString('base64')]),
  );
}

/**
 * What the definitions' Secrets are called without their numbers: there are two sets, and the one that the index names is left
 * alone. So no Secret has to be listed or deleted, however often an upgrade that waits is saved anew.
 */
async function freePart(api: Api, ref: UpgradeRef, signal: AbortSignal): Promise<string> {
  const { index } = namesOf(ref);
  const stored = await api.get(SECRET, ref.namespace, index, signal);
  const text = Buffer.from(textAt(stored, 'data', 'index.json') ?? '', 'base64').toString('utf8');
  return text.includes(`"${index}-a-`) ? `${index}-b` : `${index}-a`;
}

/** Packed and cut. */
function chunksOf(part: string, text: string): { name: string; octets: Buffer }[] {
  const packed = gzipSync(text);
  const count = Math.max(1, Math.ceil(packed.length / CHUNK_BYTES));
  if (count > CHUNKS_MAX) {
    throw new BackupFailure(
      `the definitions have ${packed.length} octets when packed, which would take ${count} Secrets: ` +
        `${CHUNKS_MAX} is the most; delete queues and bindings that nobody uses`,
    );
  }
  return Array.from({ length: count }, (_, at) => ({
    name: `${part}-${at}`,
    octets: packed.subarray(at * CHUNK_BYTES, (at + 1) * CHUNK_BYTES),
  }));
}

/** What is needed to make the cluster again; what the API server and the operator keep in it is not. */
function snapshotOf(cluster: KubeObject): JsonObject {
  const kept = ['namespace', 'name', 'uid', 'labels', 'annotations', 'ownerReferences', 'finalizers'];
  const { metadata } = cluster;
  return {
    apiVersion: cluster.apiVersion,
    kind: cluster.kind,
    metadata: Object.fromEntries(
      kept.flatMap((key) => (metadata[key] === undefined ? [] : [[key, metadata[key]]])),
    ),
    spec: cluster['spec'] ?? {},
  };
}

async function writeCredentials(
  api: Api,
  ref: UpgradeRef,
  defaultUser: KubeObject,
  make: (name: string, data: Readonly<Record<string, Buffer | string>>) => KubeObject,
  signal: AbortSignal,
): Promise<void> {
  const { credentials: name } = namesOf(ref);
  const source = `Secret ${metaOf(defaultUser, 'name')}`;
  const missing = ['username', 'password'].filter((key) => !textAt(defaultUser, 'data', key));
  if (missing.length > 0) throw new BackupFailure(`${source} has no ${missing.join(' and no ')}`);
  const wanted = { ...make(name, {}), data: valueAt(defaultUser, 'data') };
  const stored = await api.get(SECRET, ref.namespace, name, signal);
  if (stored === undefined) {
    if ((await api.create(SECRET, wanted, signal)) === 'created') return;
    throw new BackupFailure(`Secret ${name} was made by somebody else in this moment`);
  }
  if (textAt(stored, 'metadata', 'labels', `${PREFIX}rabbitmq`) !== ref.name) {
    throw new BackupFailure(`Secret ${name} is not Quorumbridge's: delete or rename it`);
  }
  if (isOf(stored, ref)) {
    const isEqual = ['username', 'password'].every(
      (key) => textAt(stored, 'data', key) === textAt(defaultUser, 'data', key),
    );
    if (isEqual) return;
    throw new BackupFailure(
      `Secret ${name} was saved for this upgrade with other credentials than ${source} has: ` +
        'delete the one of them that is wrong',
    );
  }
  await replace(api, SECRET, wanted, stored, signal);
}

/** undefined: there is no index, or one of another upgrade. */
async function read(api: Api, ref: UpgradeRef, signal: AbortSignal): Promise<SavedBackup | undefined> {
  const names = namesOf(ref);
  const stored = await api.get(SECRET, ref.namespace, names.index, signal);
  if (stored === undefined || !isOf(stored, ref)) return undefined;
  const index = jsonIn(stored, 'index.json');
  if (valueAt(index, 'formatVersion') !== FORMAT_VERSION || valueAt(index, 'sequence') !== ref.sequence) {
    throw new BackupFailure(`index.json of Secret ${names.index} is of another version or upgrade`);
  }
  const cluster = jsonIn(stored, 'cluster.json');
  if (!isObject(cluster) || !isObject(cluster['metadata']) || !isObject(cluster['spec'])) {
    throw new BackupFailure(`cluster.json of Secret ${names.index} is no RabbitmqCluster`);
  }
  if (valueAt(index, 'clusterUid') !== textAt(cluster, 'metadata', 'uid')) {
    throw new BackupFailure(`index.json and cluster.json of Secret ${names.index} are of two clusters`);
  }
  const sha256 = textAt(index, 'sha256') ?? '';
  return {
    definitions: await readDefinitions(api, ref, valueAt(index, 'chunks'), sha256, signal),
    cluster: cluster as KubeObject,
    defaultUser: await readCredentials(api, ref, signal),
    holding: objectsAt(index, 'holding') as unknown as HoldingQueue[],
    record: {
      secret: names.index,
      sha256,
      takenAt: textAt(index, 'takenAt') ?? '',
      messages: Number(valueAt(index, 'messages')),
      queues: Number(valueAt(index, 'queues')),
    },
  };
}

async function readDefinitions(
  api: Api,
  { namespace }: UpgradeRef,
  names: Json | undefined,
  sha256: string,
  signal: AbortSignal,
): Promise<JsonObject> {
  const parts: Buffer[] = [];
  for (const name of textsOf(names).slice(0, CHUNKS_MAX)) {
    const chunk = await api.get(SECRET, namespace, name, signal);
    if (chunk === undefined) throw new BackupFailure(`Secret ${name} is missing`);
    parts.push(Buffer.from(textAt(chunk, 'data', 'definitions.json.gz') ?? '', 'base64'));
  }
  let octets: Buffer;
  try {
    octets = gunzipSync(Buffer.concat(parts), { maxOutputLength: DEFINITIONS_MAX });
  } catch {
    throw new BackupFailure('the saved definitions cannot be unpacked');
  }
  if (createHash('sha256').update(octets).digest('hex') !== sha256) {
    throw new BackupFailure('the saved definitions are not those that were exported: their SHA-256 differs');
  }
  const definitions = parseExact(octets.toString('utf8'));
  if (!isDefinitions(definitions)) throw new BackupFailure('what is saved is no export of a broker');
  return definitions;
}

async function readCredentials(
  api: Api,
  ref: UpgradeRef,
  signal: AbortSignal,
): Promise<Record<string, string>> {
  const { credentials: name } = namesOf(ref);
  const stored = await api.get(SECRET, ref.namespace, name, signal);
  if (stored === undefined) throw new BackupFailure(`Secret ${name} is missing`);
  if (!isOf(stored, ref)) throw new BackupFailure(`Secret ${name} is of another upgrade`);
  const data = isObject(stored['data']) ? stored['data'] : {};
  const texts = Object.keys(data).map((key) => [
    key,
    Buffer.from(textAt(data, key) ?? '', 'base64').toString('utf8'),
  ]);
  const credentials = Object.fromEntries(texts) as Record<string, string>;
  const missing = ['username', 'password'].filter((key) => !credentials[key]);
  if (missing.length > 0) throw new BackupFailure(`Secret ${name} has no ${missing.join(' and no ')}`);
  return credentials;
}

function jsonIn(secret: KubeObject, key: string): Json | undefined {
  try {
    return JSON.parse(Buffer.from(textAt(secret, 'data', key) ?? '', 'base64').toString('utf8')) as Json;
  } catch {
    throw new BackupFailure(`${key} of Secret ${metaOf(secret, 'name')} is not valid JSON`);
  }
}

function textsOf(value: Json | undefined): string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];
}
