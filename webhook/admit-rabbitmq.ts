import { type Outcome, type ReviewToDecide } from './admission.ts';
import { allow, deny } from './answer.ts';
import { type ClientsCheck, type LedgerLookup, judgeClients } from './clients.ts';
import { DEFAULT_REASONS, defaultRabbitMq } from './defaults.ts';
import { isKind } from '../common/kube/facts.ts';
import type { WebhookStats } from './metrics.ts';
import { RABBITMQ } from '../common/kube/resources.ts';
import { RULES, type Validation, isSetNow, validate } from './validate.ts';

/** What the validating side asks about clients, and what it does with the answers. */
export interface ClientsSettings {
  readonly check: ClientsCheck;
  /** Absent: there is no cluster to ask. */
  readonly ledgers: LedgerLookup | undefined;
}

/** The mutating side of RabbitMq. */
export function decideDefaults(review: ReviewToDecide, stats: WebhookStats): Outcome {
  const { reason, patch, warnings } = defaultRabbitMq(review.object, review.oldObject);
  const isPatched = patch.length > 0;
  const verdict = { decision: isPatched ? 'default' : 'keep', reason, warnings };
  stats.decisions.add({ decision: verdict.decision, reason: verdict.reason });
  return {
    answer: isPatched ? 'patched' : 'unchanged',
    review: allow(review.subject.uid, verdict, patch),
    message: DEFAULT_REASONS[reason],
  };
}

/** The validating side: the rules of a RabbitMq, and for RabbitmqClusters too what their proxies know of clients. */
export async function decideValidity(
  review: ReviewToDecide,
  clients: ClientsSettings,
  stats: WebhookStats,
): Promise<Outcome> {
  const { object, oldObject, subject } = review;
  const own = isKind(object, RABBITMQ) ? validate(oldObject, object) : { errors: [], warnings: [] };
  // What is refused anyway is no reason to ask anybody.
  const more = own.errors.length > 0 ? undefined : await checkClients(review, clients);
  const errors = [...own.errors, ...(more?.errors ?? [])];
  const warnings = [...own.warnings, ...(more?.warnings ?? [])];
  const [first] = errors;
  const verdict = {
    decision: first === undefined ? 'valid' : 'invalid',
    reason: first?.rule ?? 'valid',
    warnings,
  };
  stats.decisions.add({ decision: verdict.decision, reason: verdict.reason });
  if (first === undefined) return { answer: 'valid', review: allow(subject.uid, verdict) };
  const message = errors.map((error) => error.message).join('; ');
  // 409 says that waiting helps: only where nothing else is wrong.
  const code = Math.max(...errors.map(({ rule }) => RULES[rule]));
  return { answer: 'denied', review: deny(subject.uid, verdict, code, message), message };
}

async function checkClients(
  { object, oldObject, subject }: ReviewToDecide,
  { check, ledgers }: ClientsSettings,
): Promise<Validation | undefined> {
  const { namespace, name } = subject;
  if (check === 'off' || !isSetNow(oldObject, object) || namespace === undefined || name === undefined)
    return undefined;
  const told = (await ledgers?.ask(namespace, name)) ?? { told: [], why: 'there is no cluster to ask' };
  // A new object that has no pods has no clients either.
  if (oldObject === undefined && told.told.length === 0) return undefined;
  return judgeClients(told, check);
}
