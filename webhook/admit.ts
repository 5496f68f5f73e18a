import type { Logger } from '../common/log.ts';
import type { Outcome, ReviewToDecide } from './admission.ts';
import { type ClientsSettings, decideDefaults, decideValidity } from './admit-rabbitmq.ts';
import { type ReviewAnswer, allow, deny } from './answer.ts';
import { isControlledByCluster, isKind } from '../common/kube/facts.ts';
import type { WebhookStats } from './metrics.ts';
import { type NativeLookup, nativeFactsFor } from './native.ts';
import type { OwnerLookup } from './owners.ts';
import { RABBITMQ, STATEFUL_SET } from '../common/kube/resources.ts';
import { type Endpoint, KINDS, type Review, type ReviewSubject, readReview } from './review.ts';
import type { Json } from '../common/kube/types.ts';
import type { InjectionSettings, MutateInput, MutateResult, OwnerFacts } from './types.ts';

export interface Admission {
  mutate(input: MutateInput): MutateResult;
  /** Absent: there is no cluster to ask, and objects are decided from themselves alone. */
  readonly owners: OwnerLookup | undefined;
  /** Absent as `owners` is. */
  readonly natives: NativeLookup | undefined;
  readonly clients: ClientsSettings;
  readonly settings: InjectionSettings;
  readonly log: Logger;
  readonly stats: WebhookStats;
}

async function findOwner(admission: Admission, review: ReviewToDecide): Promise<OwnerFacts> {
  const { object, oldObject, subject } = review;
  // Its RabbitmqCluster carries the decision: nobody needs to be asked.
  const isGoverned = isKind(object, STATEFUL_SET) && isControlledByCluster(object);
  if (admission.owners === undefined || isGoverned) return { state: 'absent' };
  const { owner, source } = await admission.owners.find(object, subject.namespace, oldObject !== undefined);
  admission.stats.ownerLookups.add({ result: owner.state, source });
  if (owner.state === 'unknown') {
    admission.log.warn({ uid: subject.uid, why: owner.why }, 'the RabbitMq behind the object is not known');
  }
  return owner;
}

async function decide(admission: Admission, review: ReviewToDecide): Promise<Outcome> {
  const { object, oldObject, subject } = review;
  const [owner, native] = await Promise.all([
    findOwner(admission, review),
    nativeFactsFor(admission.natives, object),
  ]);
  const result = admission.mutate({
    object,
    ...(oldObject !== undefined && { oldObject }),
    owner,
    ...(native !== undefined && { native }),
    settings: admission.settings,
  });
  const { inject, reason } = result.decision;
  const verdict = { decision: inject, reason, warnings: result.warnings };
  admission.stats.decisions.add({ decision: inject, reason });
  if (!result.allowed) {
    const { code, message } = result;
    return { answer: 'denied', review: deny(subject.uid, verdict, code, message), message };
  }
  return {
    answer: result.patch.length > 0 ? 'patched' : 'unchanged',
    review: allow(subject.uid, verdict, result.patch),
    message: result.decision.message,
  };
}

async function conclude(admission: Admission, endpoint: Endpoint, review: Review): Promise<Outcome> {
  if (review.todo === 'decide') {
    if (endpoint === 'validate') return decideValidity(review, admission.clients, admission.stats);
    if (isKind(review.object, RABBITMQ)) return decideDefaults(review, admission.stats);
    return decide(admission, review);
  }
  const verdict = { decision: 'keep', reason: review.reason };
  const { uid } = review.subject;
  if (review.todo === 'pass') return { answer: 'passed', review: allow(uid, verdict) };
  const { code, message } = review;
  return { answer: 'denied', review: deny(uid, verdict, code, message), message };
}

function record(admission: Admission, subject: ReviewSubject, outcome: Outcome, startedMs: number): void {
  const { log, stats } = admission;
  const ms = performance.now() - startedMs;
  stats.admissionSeconds += ms / 1000;
  const kind = KINDS.includes(subject.kind) ? subject.kind : 'other';
  stats.admissions.add({ kind, operation: subject.operation, answer: outcome.answer });
  const { decision, reason } = outcome.review.response.auditAnnotations;
  const { warnings } = outcome.review.response;
  const fields = { ...subject, answer: outcome.answer, decision, reason, ms: Math.round(ms * 10) / 10 };
  log.info(
    {
      ...fields,
      ...(outcome.message !== undefined && { message: outcome.message }),
      ...(warnings !== undefined && { warnings }),
    },
    'admission',
  );
}

/**
 * Answers the parsed body of one POST: reads the review, looks up what it needs, decides, and records what was done.
 * @throws RequestError when the body is not a review that can be answered; any other error is this program's own.
 */
export async function admit(
  admission: Admission,
  endpoint: Endpoint,
  body: Json | undefined,
): Promise<ReviewAnswer> {
  const startedMs = performance.now();
  const review = readReview(body, endpoint);
  const outcome = await conclude(admission, endpoint, review);
  record(admission, review.subject, outcome, startedMs);
  return outcome.review;
}
