import { ANNOTATION } from '../common/contract.ts';
import { annotationOf, isDeleting } from '../common/kube/facts.ts';
import { textAt } from '../common/kube/json.ts';
import { QUEUE_TYPES, phaseOf, queueTypeOf, replicasOf, targetOf } from '../common/kube/rabbitmq.ts';
import { fieldName, quoted } from './refusal.ts';
import type { KubeObject } from '../common/kube/types.ts';
import { compareVersions, parseVersion } from '../common/version.ts';

/** The rules that a RabbitMq is held to, each with its HTTP status. docs/webhook.md explains them in this order. */
export const RULES = {
  name: 422,
  'target-version': 422,
  downgrade: 422,
  'scale-down': 422,
  'queue-type': 422,
  'queue-type-4': 422,
  'topology-namespace': 422,
  'phase-under-way': 409,
  'clients-need-proxy': 409,
} as const satisfies Record<string, number>;

export type Rule = keyof typeof RULES;

/** One thing that is wrong. The message names the field, its value and the way out. */
export interface Problem {
  readonly rule: Rule;
  readonly message: string;
}

export interface Validation {
  readonly errors: Problem[];
  readonly warnings: string[];
}

/**
 * The longest name: pods carry the label controller-revision-hash, which is the StatefulSet's name NAME-server, a dash and
 * a hash of up to 10 characters, and labels have at most 63. The controller makes no pod for a longer one.
 */
const NAME_MAX = 63 - 11 - '-server'.length;

/**
 * Validates a RabbitMq. Pure.
 * @param old the stored object on an update; its status counts, which the writer of a spec can't change
 * What was wrong before and isn't touched is only warned about: the controller that puts it right must be able to write.
 */
export function validate(old: KubeObject | undefined, object: KubeObject): Validation {
  if (isDeleting(object)) return { errors: [], warnings: [] };
  const errors: Problem[] = [];
  const warnings: string[] = [];
  const add = (rule: Rule, path: string[], message: string): void => {
    errors.push({ rule, message: `${fieldName(path)}: ${message}` });
  };
  const addUnless = (isOld: boolean, rule: Rule, path: string[], message: string): void => {
    if (isOld) warnings.push(`${fieldName(path)}: ${message}`);
    else add(rule, path, message);
  };
  checkName(old, object, add);
  checkTarget(old, object, add, addUnless);
  checkScale(old, object, add);
  checkQueueType(old, object, addUnless, warnings);
  checkTopology(old, object, addUnless);
  checkPhase(old, object, add, warnings);
  for (const key of [ANNOTATION.enableProxy, ANNOTATION.clientsReconfigured, ANNOTATION.inject]) {
    const value = annotationOf(object, key);
    if (value === undefined || value === 'true' || value === 'false') continue;
    const field = fieldName(['metadata', 'annotations', key]);
    warnings.push(`${field}: ${quoted(value)} is ignored: write "true" or "false"`);
  }
  return { errors, warnings };
}

type Add = (rule: Rule, path: string[], message: string) => void;
type AddUnless = (isOld: boolean, rule: Rule, path: string[], message: string) => void;

function checkName(old: KubeObject | undefined, object: KubeObject, add: Add): void {
  const name = textAt(object, 'metadata', 'name');
  // A stored object can't be renamed, and one of metadata.generateName has no name yet.
  if (old !== undefined || !name) return;
  const path = ['metadata', 'name'];
  if (!/^[a-z\d](?:[a-z\d-]*[a-z\d])?$/.test(name)) {
    const form = 'lower case letters, digits and "-", with a letter or digit at both ends';
    add('name', path, `${quoted(name)} is no DNS label, which Services and pods are named by: use ${form}`);
  } else if (name.length > NAME_MAX) {
    const why = 'the label controller-revision-hash of its pods would exceed 63 characters';
    add('name', path, `${quoted(name)} has ${name.length} characters, and ${why}: use at most ${NAME_MAX}`);
  }
}

function checkTarget(old: KubeObject | undefined, object: KubeObject, add: Add, addUnless: AddUnless): void {
  const spelled: [string[], string | undefined][] = [
    [['metadata', 'annotations', ANNOTATION.targetVersion], annotationOf(object, ANNOTATION.targetVersion)],
    [['spec', 'targetVersion'], textAt(object, 'spec', 'targetVersion') || undefined],
  ];
  for (const [path, text] of spelled) {
    if (text === undefined || parseVersion(text) !== undefined) continue;
    const message = `${quoted(text)} is no version: write two or three numbers, such as "4.2" or "4.2.1"`;
    addUnless(textAt(old, ...path) === text, 'target-version', path, message);
  }
  const target = targetOf(object);
  const before = targetOf(old);
  if (old === undefined || target === undefined || target.text === before?.text) return;
  const current = textAt(old, 'status', 'currentVersion') || undefined;
  const [next, base] = [parseVersion(target.text), parseVersion(current ?? before?.text)];
  if (next === undefined || base === undefined || compareVersions(next, base) >= 0) return;
  const has =
    current === undefined ? `the target so far, ${before?.text}` : `the running version, ${current}`;
  const way = `RabbitMQ can't be downgraded: name ${current ?? before?.text} or a later one`;
  add('downgrade', target.path, `${quoted(target.text)} is older than ${has}, and ${way}`);
}

function checkScale(old: KubeObject | undefined, object: KubeObject, add: Add): void {
  if (old === undefined) return;
  const [before, after] = [replicasOf(old), replicasOf(object)];
  if (before === undefined || after === undefined || after >= before) return;
  const why = 'queues with members on the nodes that go would lose them';
  add(
    'scale-down',
    ['spec', 'replicas'],
    `${after} is less than ${before}, and a cluster can't be made smaller, for ${why}: keep at least ${before}`,
  );
}

function checkQueueType(
  old: KubeObject | undefined,
  object: KubeObject,
  addUnless: AddUnless,
  warnings: string[],
): void {
  const path = ['spec', 'queueType'];
  const [before, type] = [queueTypeOf(old), queueTypeOf(object)];
  if (type !== undefined && !QUEUE_TYPES.some((known) => known === type)) {
    const isOld = before === type;
    addUnless(isOld, 'queue-type', path, `${quoted(type)} is no queue type: write ${QUEUE_TYPES.join(', ')}`);
    return;
  }
  const target = targetOf(object);
  const major = parseVersion(target?.text)?.major ?? 0;
  if (type !== undefined && type !== 'Quorum' && major >= 4) {
    const isOld = before === type && targetOf(old)?.text === target?.text;
    const why = `${quoted(target!.text)} is the target, and RabbitMQ 4 has neither mirrored queues nor their policies`;
    addUnless(isOld, 'queue-type-4', path, `${quoted(type)} is not possible, for ${why}: write "Quorum"`);
  }
  const current = parseVersion(textAt(old, 'status', 'currentVersion'));
  const had = textAt(old, 'status', 'queueType') || before;
  if (type === 'Quorum' && before !== 'Quorum' && had === 'Mirrored' && current?.major === 3 && major < 4) {
    warnings.push(
      `${fieldName(path)}: changing mirrored queues to quorum queues makes the cluster anew: its queues and messages are lost`,
    );
  }
}

function checkTopology(old: KubeObject | undefined, object: KubeObject, addUnless: AddUnless): void {
  const path = ['spec', 'topologyRef', 'namespace'];
  const [named, own] = [textAt(object, ...path), textAt(object, 'metadata', 'namespace')];
  if (!named || !own || named === own) return;
  const message = `${quoted(named)} is another namespace than the object's own: write ${quoted(own)}, or leave it out`;
  addUnless(textAt(old, ...path) === named, 'topology-namespace', path, message);
}

function checkPhase(old: KubeObject | undefined, object: KubeObject, add: Add, warnings: string[]): void {
  const phase = phaseOf(old);
  if (phase === undefined) return;
  const wait = `an upgrade is under way (status.upgradePhase is ${quoted(phase)}): wait until it is done`;
  const [before, after] = [targetOf(old), targetOf(object)];
  const isReached = before !== undefined && before.text === textAt(old, 'status', 'currentVersion');
  const calledOff = waysBack(old);
  const isCalledOff = calledOff.target && (after === undefined || isRunning(old, after.text));
  if (before?.text !== after?.text && !isReached && !isCalledOff) {
    const { path, text } = (after ?? before)!;
    const from = before === undefined ? '' : `, from ${quoted(before.text)},`;
    const change = after === undefined ? 'taken away' : `set${from}`;
    add('phase-under-way', path, `${quoted(text)} can not be ${change} while ${wait}`);
  }
  const isMirroredAgain = calledOff.queueType && queueTypeOf(object) === 'Mirrored';
  if (queueTypeOf(old) === 'Quorum' && queueTypeOf(object) !== 'Quorum' && !isMirroredAgain) {
    add('phase-under-way', ['spec', 'queueType'], `"Quorum" can not be changed while ${wait}`);
  }
  if (isSetNow(old, object)) {
    const field = fieldName(['metadata', 'annotations', ANNOTATION.clientsReconfigured]);
    warnings.push(`${field}: the clients lose their proxy while ${wait}`);
  }
}

/**
 * What of an upgrade may be taken back: the reconciler, which keeps status.upgrade, calls it off as long as nothing is deleted.
 * Where it has deleted something in this moment, it finishes the upgrade all the same.
 */
function waysBack(old: KubeObject | undefined): { target: boolean; queueType: boolean } {
  const reason = textAt(old, 'status', 'upgrade', 'reason');
  const isOpen = phaseOf(old) === 'DeletingResources';
  return {
    target: isOpen && reason === 'VersionUpgrade',
    queueType: isOpen && reason === 'QueueTypeMigration',
  };
}

function isRunning(old: KubeObject | undefined, text: string): boolean {
  const [version, current] = [parseVersion(text), parseVersion(textAt(old, 'status', 'currentVersion'))];
  return version !== undefined && current !== undefined && compareVersions(version, current) === 0;
}

/** Whether this write is the one that says the clients are reconfigured. */
export function isSetNow(old: KubeObject | undefined, object: KubeObject): boolean {
  const [before, after] = [old, object].map((each) => annotationOf(each, ANNOTATION.clientsReconfigured));
  return after === 'true' && before !== 'true';
}
