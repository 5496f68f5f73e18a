import type { Logger } from '../common/log.ts';
import { type ReviewAnswer, allow, deny } from './answer.ts';
import type { OwnerLookup } from './kube.ts';
import type { WebhookStats } from './metrics.ts';
import { type Review, type ReviewSubject, readReview } from './review.ts';
import type { InjectionSettings, Json, MutateInput, MutateResult, OwnerFacts } from './types.ts';

export interface Admission {
  mutate(input: MutateInput): MutateResult;
  /** Absent: there is no cluster to ask, and objects are decided from themselves alone. */
  readonly owners: OwnerLookup | undefined;
  readonly settings: InjectionSettings;
  readonly log: Logger;
  readonly stats: WebhookStats;
}

interface Outcome {
  readonly answer: 'patched' | 'unchanged' | 'denied' | 'passed';
  readonly review: ReviewAnswer;
  readonly message?: string;
}

async function findOwner(admission: Admission, review: Review & { todo: 'decide' }): Promise<OwnerFacts> {
  if (admission.owners === undefined) return { state: 'absent' };
  const owner = await admission.owners.find(review.object, review.subject.namespace);
  admission.stats.ownerLookups.add({ result: owner.state });
  if (owner.state === 'unknown') {
    admission.log.warn(
      { uid: review.subject.uid, why: owner.why },
      'the RabbitMq behind the object is not known',
    );
  }
  return owner;
}

async function decide(admission: Admission, review: Review & { todo: 'decide' }): Promise<Outcome> {
  const { object, oldObject, subject } = review;
  const owner = await findOwner(admission, review);
  const result = admission.mutate({
    object,
    ...(oldObject !== undefined && { oldObject }),
    owner,
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

async function conclude(admission: Admission, review: Review): Promise<Outcome> {
  if (review.todo === 'decide') return decide(admission, review);
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
  const kind = ['RabbitmqCluster', 'StatefulSet'].includes(subject.kind) ? subject.kind : 'other';
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
 * Answers the parsed body of one POST /mutate: reads the review, looks up the owner, decides, and records what was done.
 * @throws RequestError when the body is not a review that can be answered; any other error is this program's own.
 */
export async function admit(admission: Admission, body: Json | undefined): Promise<ReviewAnswer> {
  const startedMs = performance.now();
  const review = readReview(body);
  const outcome = await conclude(admission, review);
  record(admission, review.subject, outcome, startedMs);
  return outcome.review;
}
