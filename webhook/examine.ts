import { MODES, PRESETS, RULES_FILE, RULES_FOLDER } from '../common/contract.ts';
import { clusterTarget } from './cluster.ts';
import { isKind } from '../common/kube/facts.ts';
import type { Form } from './form.ts';
import { textAt } from '../common/kube/json.ts';
import { mutate } from './mutate.ts';
import { fieldName } from './refusal.ts';
import { CLUSTER, STATEFUL_SET } from '../common/kube/resources.ts';
import { statefulSetTarget } from './statefulset.ts';
import type { Target } from './target.ts';
import { tracesOf } from './traces.ts';
import { flagOf } from './tuning.ts';
import type { KubeObject } from '../common/kube/types.ts';
import type { Decision, MutateInput } from './types.ts';

/** The proxy as an object carries it. */
export interface CarriedProxy {
  readonly image: string;
  /** By its arguments; the proxy's default where they say nothing. */
  readonly mode: string;
  readonly preset: string;
  /** undefined: none of one's own. */
  readonly rules: string | undefined;
  readonly logLevel: string;
  readonly form: Form;
  /** False for a container of the name that was not injected. */
  readonly isOurs: boolean;
}

/** What is to be known of a stored object. */
export interface Examination {
  readonly decision: Decision;
  readonly proxy: CarriedProxy | undefined;
  /** What the next write of the object would do to it. `denied` may be a passing trouble: code 503. */
  readonly admission:
    | { readonly would: 'change nothing' }
    | { readonly would: 'inject' | 'remove' | 'repair'; readonly fields: string[] }
    | { readonly would: 'be denied'; readonly code: number; readonly message: string };
  readonly warnings: string[];
}

/** More fields than people read. */
const FIELDS_MAX = 40;

/** Looks at a stored object as an admission of it, unchanged, would. Pure. */
export function examine(input: Omit<MutateInput, 'oldObject'>): Examination {
  const { object } = input;
  const result = mutate({ ...input, oldObject: object });
  const proxy = proxyOf(object);
  const { decision, warnings } = result;
  if (!result.allowed) {
    const { code, message } = result;
    return { decision, proxy, admission: { would: 'be denied', code, message }, warnings };
  }
  if (result.patch.length === 0) {
    return { decision, proxy, admission: { would: 'change nothing' }, warnings };
  }
  const after = proxyOf(result.object);
  const would = after === undefined ? 'remove' : proxy === undefined ? 'inject' : 'repair';
  const fields = [...new Set(result.patch.map(({ path }) => fieldOf(path)))].slice(0, FIELDS_MAX);
  return { decision, proxy, admission: { would, fields }, warnings };
}

/** A JSON pointer as Kubernetes names fields. */
function fieldOf(pointer: string): string {
  const steps = pointer
    .split('/')
    .slice(1)
    .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'));
  return fieldName(steps.map((step) => (/^\d+$/.test(step) ? Number(step) : step)));
}

function targetOf(object: KubeObject): Target | undefined {
  if (isKind(object, CLUSTER)) return clusterTarget;
  return isKind(object, STATEFUL_SET) ? statefulSetTarget : undefined;
}

function proxyOf(object: KubeObject): CarriedProxy | undefined {
  const target = targetOf(object);
  if (target === undefined) return undefined;
  const { container, form, ownStatus } = tracesOf(target, object, undefined);
  if (container === undefined) return undefined;
  const args = Array.isArray(container['args']) ? container['args'].map(String) : [];
  const valueOf = (flag: string): string | undefined =>
    args.findLast((arg) => flagOf(arg) === flag)?.slice(flag.length + 1);
  const rules = valueOf('--rules');
  return {
    image: textAt(container, 'image') ?? '',
    mode: valueOf('--mode') ?? MODES[0],
    preset: valueOf('--preset') ?? PRESETS[0],
    rules: rules === `${RULES_FOLDER}/${RULES_FILE}` ? rulesSourceOf(object, target) : rules,
    logLevel: valueOf('--log-level') ?? 'info',
    form: form ?? 'plain',
    isOurs: ownStatus !== undefined,
  };
}

function rulesSourceOf(object: KubeObject, target: Target): string | undefined {
  const configMap = tracesOf(target, object, undefined).rules;
  const [name, key] = [
    textAt(configMap, 'configMap', 'name'),
    textAt(configMap, 'configMap', 'items', 0, 'key'),
  ];
  return name === undefined ? undefined : `ConfigMap ${name}, key ${key}`;
}
