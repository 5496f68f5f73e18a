import type { Metrics } from '../common/metrics.ts';
import type { RequestErrorReason } from './errors.ts';

type Labels = Readonly<Record<string, string>>;

/** Counts by labels in plain fields, read at scrape. */
class LabelledCount<L extends Labels> {
  readonly #counts = new Map<string, { labels: L; value: number }>();

  add(labels: L): void {
    const id = Object.values(labels).join('\0');
    const entry = this.#counts.get(id);
    if (entry === undefined) this.#counts.set(id, { labels, value: 1 });
    else entry.value++;
  }

  *[Symbol.iterator](): IterableIterator<readonly [L, number]> {
    for (const { labels, value } of this.#counts.values()) yield [labels, value];
  }
}

/** What the webhook did since it started. */
export class WebhookStats {
  readonly admissions = new LabelledCount<{ kind: string; operation: string; answer: string }>();
  readonly decisions = new LabelledCount<{ decision: string; reason: string }>();
  readonly badRequests = new LabelledCount<{ reason: RequestErrorReason }>();
  readonly ownerLookups = new LabelledCount<{ result: string }>();
  internalErrors = 0;
  /** Sum over all admissions, in seconds. */
  admissionSeconds = 0;
  certificateReloads = 0;
  certificateFailures = 0;
  /** End of the serving certificate's validity, Unix time in seconds. */
  certificateNotAfter = 0;
}

/** Adds the webhook's metrics, all named quorumbridge_webhook_…, to a registry. docs/webhook.md lists them. */
export function registerMetrics(metrics: Metrics, stats: WebhookStats): void {
  const prefix = 'quorumbridge_webhook_';
  metrics.counter(
    `${prefix}admissions_total`,
    'Admission reviews answered; answer is patched, unchanged, denied or passed (not looked into)',
    () => stats.admissions,
    ['kind', 'operation', 'answer'],
  );
  metrics.counter(
    `${prefix}decisions_total`,
    'Decisions about objects, by decision and reason',
    () => stats.decisions,
    ['decision', 'reason'],
  );
  metrics.counter(
    `${prefix}bad_requests_total`,
    'Requests refused with HTTP 4xx, by reason',
    () => stats.badRequests,
    ['reason'],
  );
  metrics.counter(
    `${prefix}internal_errors_total`,
    'Admissions answered with HTTP 500 because of an error in the webhook itself',
    () => stats.internalErrors,
  );
  metrics.counter(
    `${prefix}admission_seconds_total`,
    'Time spent on admissions, from the parsed request to the answer',
    () => stats.admissionSeconds,
  );
  metrics.counter(
    `${prefix}owner_lookups_total`,
    'Questions to the API server about the RabbitMq behind an object; result is found, absent or unknown',
    () => stats.ownerLookups,
    ['result'],
  );
  metrics.counter(
    `${prefix}certificate_reloads_total`,
    'Times a new serving certificate was taken into use',
    () => stats.certificateReloads,
  );
  metrics.counter(
    `${prefix}certificate_reload_failures_total`,
    'Times the serving certificate could not be read again; the previous one stays in use',
    () => stats.certificateFailures,
  );
  metrics.gauge(
    `${prefix}certificate_not_after_timestamp_seconds`,
    'End of the serving certificate validity, in Unix time',
    () => stats.certificateNotAfter,
  );
}
