// What a write of a RabbitmqCluster makes of the version that runs: RabbitMQ does not start on what a later one has stored.
import { ANNOTATION, KIND, RABBITMQ_CONTAINER, UPGRADE_ANNOTATION } from '../common/contract.ts';
import { versionOfImage } from '../common/image.ts';
import { annotationOf, isKind } from '../common/kube/facts.ts';
import { isObject, objectsAt, textAt, valueAt } from '../common/kube/json.ts';
import { phaseOf } from '../common/kube/rabbitmq.ts';
import type { KubeObject } from '../common/kube/types.ts';
import { type Version, compareVersions, parseVersion } from '../common/version.ts';
import { clusterTarget } from './cluster.ts';
import { Refusal, fieldName, quoted } from './refusal.ts';
import type { MutateInput } from './types.ts';

/** The cluster operator has never run an older one: a tag below is somebody's own count. */
const OLDEST: Version = { major: 3, minor: 8, patch: undefined };

interface Image {
  readonly path: (string | number)[];
  readonly text: string;
  /** Without its patch, by the tag; undefined where that tells none. */
  readonly version: Version | undefined;
}

/** The version that an object's storage is of. */
interface Running {
  readonly version: Version;
  /** A clause for people. */
  readonly how: string;
}

/**
 * Holds the image of a stored RabbitmqCluster against the version that runs, by the RabbitMq behind it. An old manifest that
 * is applied again after an upgrade would put the old image on the new storage. Pure.
 * @returns warnings for people
 * @throws Refusal for another image than the stored one's, of an older minor version than runs
 */
export function imageWarnings({
  object,
  oldObject,
  owner,
}: Pick<MutateInput, 'object' | 'oldObject' | 'owner'>): string[] {
  if (oldObject === undefined || !isKind(object, KIND.cluster)) return [];
  const [image, before] = [imageOf(object), imageOf(oldObject)];
  if (image?.version === undefined || (before === undefined && !isStarted(oldObject))) return [];
  const isNew = image.text !== before?.text;
  const rabbitmq = owner.state === 'found' ? owner.rabbitmq : undefined;
  const runs = runningOf(rabbitmq, oldObject);
  if (runs !== undefined && compareVersions(image.version, runs.version) < 0) {
    return judgeOlder(object, image, runs, isNew);
  }
  if (!isNew) return [];
  if (runs?.version.major === 3 && isLater(image.version, runs.version) && phaseOf(rabbitmq) === undefined) {
    const way = `set the annotation ${ANNOTATION.targetVersion} of the RabbitMq, which upgrades the cluster`;
    return [`${toldOf(image)}, and ${minorOf(runs.version)} runs, whose storage it may not start on: ${way}`];
  }
  if (before?.version === undefined || !isLater(before.version, image.version)) return [];
  const unknown = owner.state === 'unknown' ? ' (not refused, for the RabbitMq could not be read)' : '';
  return [
    `${toldOf(image)}, older than ${minorOf(before.version)} of the image before: it can't read what a later one has stored${unknown}`,
  ];
}

function judgeOlder(object: KubeObject, image: Image, runs: Running, isNew: boolean): string[] {
  const told = `is RabbitMQ ${minorOf(image.version!)}, older than ${minorOf(runs.version)}, ${runs.how}, and can't read its storage`;
  if (annotationOf(object, ANNOTATION.allowDowngrade) === 'true') {
    return [
      `${fieldName(image.path)}: ${quoted(image.text)} ${told}: allowed by the annotation ${ANNOTATION.allowDowngrade}`,
    ];
  }
  const way =
    `name an image of ${minorOf(runs.version)} or later, or set the annotation ` +
    `${ANNOTATION.allowDowngrade}: "true"`;
  const refusal = new Refusal(image.path, `${quoted(image.text)} ${told}: ${way}`);
  // What is stored already, somebody has to be able to put right, field by field.
  if (isNew) throw refusal;
  return [refusal.message];
}

/**
 * The version that the stored cluster runs. The one that an upgrade under way has made runs the upgrade's, which becomes
 * status.currentVersion at the end; up to then that is the version of the cluster before.
 */
function runningOf(rabbitmq: KubeObject | undefined, stored: KubeObject): Running | undefined {
  const sequence = valueAt(rabbitmq, 'status', 'upgrade', 'sequence');
  const isMade =
    typeof sequence === 'number' && annotationOf(stored, UPGRADE_ANNOTATION.stamp) === String(sequence);
  const version = minor(textAt(rabbitmq, 'status', ...(isMade ? ['upgrade', 'to'] : ['currentVersion'])));
  if (version === undefined) return undefined;
  return { version, how: isMade ? 'which the upgrade under way leads to' : 'which runs' };
}

/** The image of RabbitMQ's container: the override's first entry for it, as the cluster operator merges it, beats the spec's. */
function imageOf(object: KubeObject): Image | undefined {
  const containers = [...clusterTarget.template, 'spec', 'containers'];
  const list = valueAt(object, ...containers);
  const at = Array.isArray(list)
    ? list.findIndex((each) => isObject(each) && each['name'] === RABBITMQ_CONTAINER)
    : -1;
  for (const path of [
    [...containers, at, 'image'],
    ['spec', 'image'],
  ]) {
    const text = textAt(object, ...path);
    if (text) return { path, text, version: versionNamedBy(text) };
  }
  return undefined;
}

/** Whether the cluster operator has reported on it. Before, it fills the image in, and nothing is stored yet. */
function isStarted(stored: KubeObject): boolean {
  return objectsAt(stored, 'status', 'conditions').length > 0;
}

function versionNamedBy(image: string): Version | undefined {
  const version = minor(versionOfImage(image));
  return version === undefined || compareVersions(version, OLDEST) < 0 ? undefined : version;
}

function minor(text: string | undefined): Version | undefined {
  const version = parseVersion(text);
  return version && { ...version, patch: undefined };
}

function isLater(a: Version, b: Version): boolean {
  return compareVersions(a, b) > 0;
}

function minorOf({ major, minor }: Version): string {
  return `${major}.${minor}`;
}

function toldOf({ path, text, version }: Image): string {
  return `${fieldName(path)}: ${quoted(text)} is RabbitMQ ${minorOf(version!)}`;
}
