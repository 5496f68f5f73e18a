import { CertificateStats } from '../common/certificate-watch.ts';
import type { EventCount } from '../common/kube/events.ts';
import { LabelledCount, type Metrics } from '../common/metrics.ts';
import type { RequestErrorReason } from './errors.ts';
import type { OwnerCache } from './owners.ts';

/** What the webhook did since it started. */
export class WebhookStats {
  readonly admissions = new LabelledCount<{ kind: string; operation: string; answer: string }>();
  readonly decisions = new LabelledCount<{ decision: string; reason: string }>();
  readonly badRequests = new LabelledCount<{ reason: RequestErrorReason }>();
  readonly ownerLookups = new LabelledCount<{ result: string; source: string }>();
  /** Absent without a cluster. */
  ownerCache: Pick<OwnerCache, 'watching' | 'size' | 'failures'> | undefined;
  readonly events: EventCount = new LabelledCount();
  internalErrors = 0;
  /** Sum over all admissions, in seconds. */
  admissionSeconds = 0;
  readonly certificate = new CertificateStats();
  /** Times that a registration's caBundle had to be written. */
  caBundlePatches = 0;
  /** Looks at Secret and registrations behind which not all was as it is to be. */
  caBundleFailures = 0;
}

/** Adds the webhook's metrics, all named quorumbridge_webhook_…, to a registry. docs/metrics.md lists them. */
export function registerMetrics(metrics: Metrics, stats: WebhookStats): void {
  const prefix = 'quorumbridge_webhook_';
  metrics.counter(
    `${prefix}admissions_total`,
    'Admission reviews answered; answer is patched, unchanged, valid, denied or passed (not looked into)',
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
    'Questions about the RabbitMq behind an object; result is found, absent or unknown, source is cache or live',
    () => stats.ownerLookups,
    ['result', 'source'],
  );
  metrics.gauge(
    `${prefix}owner_cache_watching`,
    'Whether changes of RabbitMqs arrive; at 0 the API server is asked each time, if there is one',
    () => Number(stats.ownerCache?.watching ?? false),
  );
  metrics.gauge(`${prefix}owner_cache_objects`, 'RabbitMqs in the cache', () => stats.ownerCache?.size ?? 0);
  metrics.counter(
    `${prefix}owner_cache_failures_total`,
    'Times that following RabbitMqs failed and was begun again',
    () => stats.ownerCache?.failures ?? 0,
  );
  metrics.counter(
    `${prefix}events_total`,
    'Events about injections; result is written, known (by another replica), failed or left out (too many)',
    () => stats.events,
    ['reason', 'result'],
  );
  metrics.counter(
    `${prefix}certificate_reloads_total`,
    'Times a new serving certificate was taken into use',
    () => stats.certificate.reloads,
  );
  metrics.counter(
    `${prefix}certificate_reload_failures_total`,
    'Times the serving certificate could not be read again; the previous one stays in use',
    () => stats.certificate.failures,
  );
  metrics.gauge(
    `${prefix}certificate_not_after_timestamp_seconds`,
    'End of the serving certificate validity, in Unix time',
    () => stats.certificate.notAfter,
  );
  metrics.gauge(
    `${prefix}ca_not_after_timestamp_seconds`,
    'End of the validity of the CA of the serving certificate, in Unix time; 0 where it is not known',
    () => stats.certificate.caNotAfter,
  );
  metrics.counter(
    `${prefix}ca_bundle_patches_total`,
    'Times the caBundle of a registration was written',
    () => stats.caBundlePatches,
  );
  metrics.counter(
    `${prefix}ca_bundle_failures_total`,
    'Times the Secret or the caBundle of a registration could not be brought up to date',
    () => stats.caBundleFailures,
  );
}
