import fastJsonPatch from 'fast-json-patch';
import { ANNOTATION, KIND, PROXY_CONTAINER } from '../common/contract.ts';
import { clusterTarget } from './cluster.ts';
import { decide, decisionWarnings } from './decide.ts';
import { imageWarnings } from './downgrade.ts';
import { editWarnings } from './edits.ts';
import { isDeleting, isKind } from '../common/kube/facts.ts';
import { LIST_OF, chooseForm } from './form.ts';
import { canonical, copy, fingerprint, isObject } from '../common/kube/json.ts';
import { Refusal } from './refusal.ts';
import { rulesVolume } from './rules.ts';
import {
  DEFAULT_RESOURCES,
  GUARANTEED_RESOURCES,
  backendArg,
  renderSidecar,
  sidecarFingerprint,
} from './sidecar.ts';
import { statefulSetTarget } from './statefulset.ts';
import { TOMBSTONE, formOf, statusText } from './status.ts';
import type { Injected } from './status.ts';
import type { Broker, Injection, Target } from './target.ts';
import { NO_TRACES, keptOf, originalOf, ownedOf, tracesOf } from './traces.ts';
import type { Kept, Traces } from './traces.ts';
import { readTuning, unknownAnnotations } from './tuning.ts';
import type { Tuning } from './tuning.ts';
import type { JsonObject, KubeObject } from '../common/kube/types.ts';
import type { Decision, MutateInput, MutateResult } from './types.ts';

/**
 * Decides whether the object has to carry the proxy and makes it so: puts it in, brings it up to date, or takes it out
 * again. Pure: the same input gives the same bytes, and the result of one pass is left alone by the next. It never
 * throws for what an object holds; what can't be done is denied.
 */
export function mutate(input: MutateInput): MutateResult {
  const { object, oldObject, owner } = input;
  const target = targetOf(object);
  const traces = target === undefined ? NO_TRACES : tracesOf(target, object, oldObject);
  const facts = {
    object,
    owner,
    namespace: input.namespace,
    stored: oldObject !== undefined,
    injectedBy: traces.status?.by,
  };
  const decision = decide(facts);
  const warnings = decisionWarnings(facts, decision);
  if (target === undefined || isDeleting(object) || decision.reason === 'governed-by-rabbitmqcluster') {
    return { allowed: true, decision, patch: [], object, warnings };
  }
  try {
    warnings.push(...imageWarnings(input));
    return act(input, target, traces, decision, warnings);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return { allowed: false, decision, code: error.code, message: error.message, path: error.path, warnings };
  }
}

function targetOf(object: KubeObject): Target | undefined {
  if (isKind(object, KIND.cluster)) return clusterTarget;
  return isKind(object, KIND.statefulSet) ? statefulSetTarget : undefined;
}

function act(
  input: MutateInput,
  target: Target,
  traces: Traces,
  decision: Decision,
  warnings: string[],
): MutateResult {
  if (decision.inject === 'no') return done(input, decision, warnings, remove(input.object, target, traces));
  if (decision.inject === 'keep') {
    if (traces.status !== undefined) {
      const kept = keptOf(target, traces, input.object, input.oldObject);
      const result = inject(input, target, traces, kept);
      return done(input, decision, warnings, result.object);
    }
    if (input.oldObject !== undefined) return done(input, decision, warnings, input.object);
    const message = `${decision.message}: try again`;
    return { allowed: false, decision, code: 503, message, warnings: [] };
  }
  const result = inject(input, target, traces, undefined);
  const all = [...warnings, ...unknownAnnotations(input.object), ...result.warnings];
  return done(input, decision, all, result.object);
}

function done(input: MutateInput, decision: Decision, warnings: string[], object: KubeObject): MutateResult {
  return { allowed: true, decision, patch: fastJsonPatch.compare(input.object, object), object, warnings };
}

/** The object without injection; the very same object when it has none. */
function remove(object: KubeObject, target: Target, traces: Traces): KubeObject {
  const isInjected = traces.ownStatus !== undefined || target.configOf(object) !== undefined;
  const isOurs = traces.status !== undefined;
  if (!isInjected && !(isOurs && traces.container !== undefined) && !traces.buried) return object;
  const result = copy(object);
  target.strip(result, originalOf(traces), ownedOf(traces));
  if (target.tombstone && traces.buried) annotationsOf(result, target)[ANNOTATION.status] = TOMBSTONE;
  return result;
}

function annotationsOf(object: KubeObject, target: Target): JsonObject {
  let place: JsonObject = object;
  for (const step of [...target.template, 'metadata', 'annotations']) {
    const next = place[step];
    if (isObject(next)) place = next;
    else place = place[step] = {};
  }
  return place;
}

/** The object with the injection, whatever it carries already. `kept` is what to keep as it is. */
function inject(
  input: MutateInput,
  target: Target,
  traces: Traces,
  kept: Kept | undefined,
): { object: KubeObject; warnings: string[] } {
  if (traces.container !== undefined && traces.status === undefined) {
    throw new Refusal(
      [...target.template, 'spec', LIST_OF[traces.form ?? 'plain']],
      `there is a container named ${PROXY_CONTAINER} that was not injected: rename it, or set the annotation ` +
        `${ANNOTATION.inject}: "false"`,
      409,
    );
  }
  const configBefore = target.configOf(input.object);
  const result = copy(input.object);
  target.strip(result, originalOf(traces), ownedOf(traces));
  const { injection, image, warnings } = render(input, target, traces, result, kept);
  const { original, config } = target.add(result, injection, [input.object, input.oldObject]);
  const status: Injected = {
    by: target.kind,
    image,
    ...(injection.form === 'native' ? { form: 'native' } : {}),
    sidecar: sidecarFingerprint(injection.container),
    config: fingerprint(config),
    ...(injection.rules === undefined ? {} : { rules: fingerprint(canonical(injection.rules)) }),
    original,
  };
  annotationsOf(result, target)[ANNOTATION.status] = statusText(status);
  const { ownStatus, container, form, rules } = traces;
  const before = { status: ownStatus, container, form, rules, config: configBefore };
  return { object: result, warnings: [...warnings, ...editWarnings(before, { status, ...injection })] };
}

function render(
  input: MutateInput,
  target: Target,
  traces: Traces,
  clean: KubeObject,
  kept: Kept | undefined,
): { injection: Injection; image: string; warnings: string[] } {
  if (kept !== undefined) {
    const args = Array.isArray(kept.container['args']) ? kept.container['args'] : [];
    const injection = {
      ...kept,
      host: args.includes(backendArg('::1')) ? ('::1' as const) : ('127.0.0.1' as const),
      proxyProtocol: args.includes('--backend-proxy-protocol=v2'),
      backendTls: args.includes('--backend-tls'),
    };
    return { injection, image: traces.status?.image ?? input.settings.image, warnings: [] };
  }
  const tuning = readTuning(input.object);
  const broker = target.inspect(clean, input.owner.state === 'found' ? input.owner.rabbitmq : undefined);
  const image = tuning.image ?? traces.status?.image ?? input.settings.image;
  const before = traces.status && formOf(traces.status);
  const { form, warnings } = chooseForm(tuning.sidecarMode, input.native, before);
  const rendered = renderSidecar({
    form,
    image,
    host: tuning.backendHost,
    tls: broker.tls,
    tlsOnAmqpPort: isTlsOnAmqpPort(tuning, broker),
    backendTls: broker.backendTls,
    proxyProtocol: tuning.proxyProtocol,
    resources: tuning.resources ?? copy(broker.guaranteed ? GUARANTEED_RESOURCES : DEFAULT_RESOURCES),
    logLevel: tuning.logLevel,
    mode: tuning.mode,
    preset: tuning.preset,
    rules: tuning.rules !== undefined,
    extraArgs: tuning.args,
  });
  const existing = traces.container;
  const isSame = existing !== undefined && sidecarFingerprint(existing) === sidecarFingerprint(rendered);
  const injection = {
    container: isSame ? copy(existing) : rendered,
    form,
    host: tuning.backendHost,
    rules: tuning.rules && rulesVolume(tuning.rules),
    proxyProtocol: tuning.proxyProtocol,
    backendTls: broker.backendTls !== undefined,
  };
  return { injection, image, warnings: [...warnings, ...broker.warnings] };
}

function isTlsOnAmqpPort({ tlsPort }: Tuning, { tls }: Broker): boolean {
  if (tlsPort !== '5672') return false;
  if (tls !== undefined) return true;
  throw new Refusal(
    ['metadata', 'annotations', ANNOTATION.tlsPort],
    '"5672" asks for TLS there, and RabbitMQ has no TLS files that the proxy could use: give it TLS, or take this away',
  );
}
