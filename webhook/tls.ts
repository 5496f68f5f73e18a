import { X509Certificate } from 'node:crypto';
import { rename, stat, writeFile } from 'node:fs/promises';
import { type CertificateAndKey, makeCa, makeServingCertificate } from '../certs/certificates.ts';
import { UsageError, messageOf } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import { readTlsFiles } from '../common/tls.ts';
import type { WebhookStats } from './metrics.ts';

/** A serving certificate in PEM, with its chain if any, and its private key. */
export interface Certificate {
  readonly cert: string | Buffer;
  readonly key: string | Buffer;
}

/** Gives the certificate to serve with now; asked again and again, it gives another one once there is one. */
export type CertificateSource = () => Promise<Certificate>;

const DAY_MS = 86_400_000;
const CA_DAYS = 3650;
const LEAF_DAYS = 90;
const RENEW_BEFORE_MS = 30 * DAY_MS;

/** End of a certificate's validity, Unix time in milliseconds. */
export function notAfter({ cert }: Certificate): number {
  return new X509Certificate(cert).validToDate.getTime();
}

/** A certificate from files, as cert-manager or a Secret's volume provides them. The source throws UsageError. */
export function filesSource(certFile: string, keyFile: string): CertificateSource {
  return async () => readTlsFiles({ certFile, keyFile, optionNames: { cert: 'tls-cert', key: 'tls-key' } });
}

/**
 * A certificate of this process's own: makes a CA, writes its certificate (never its key) to `caOut`, and serves for
 * localhost, 127.0.0.1, ::1 and `dnsNames`. The source renews the serving certificate under the same CA.
 * @throws UsageError when `caOut` can't be written or a name can't be in a certificate.
 */
export async function selfSignedSource(
  caOut: string,
  dnsNames: readonly string[],
): Promise<CertificateSource> {
  const ca = await makeCa({ commonName: 'Quorumbridge webhook CA', days: CA_DAYS });
  const make = (): Promise<CertificateAndKey> =>
    makeServingCertificate({
      ca,
      dnsNames: ['localhost', ...dnsNames],
      ips: ['127.0.0.1', '::1'],
      days: LEAF_DAYS,
    });
  let current = await make().catch((error: unknown) => {
    throw new UsageError(`option --dns-name: ${messageOf(error)}`);
  });
  try {
    await publish(caOut, ca.cert);
  } catch (error) {
    throw new UsageError(`option --ca-out: ${caOut} cannot be written: ${messageOf(error)}`);
  }
  return async () => {
    if (notAfter(current) - Date.now() < RENEW_BEFORE_MS) current = await make();
    return current;
  };
}

/** Writes a file that others wait for: a regular one appears whole or not at all, a pipe or device is written to. */
async function publish(path: string, text: string): Promise<void> {
  const present = await stat(path).catch(() => undefined);
  if (present !== undefined && !present.isFile()) return writeFile(path, text);
  await writeFile(`${path}.tmp`, text);
  return rename(`${path}.tmp`, path);
}

export interface CertificateWatch {
  readonly source: CertificateSource;
  /** What is served with now. */
  readonly initial: Certificate;
  readonly intervalMs: number;
  readonly log: Logger;
  readonly stats: WebhookStats;
  readonly use: (certificate: Certificate) => void;
}

/**
 * Asks the source at every interval and takes a changed certificate into use. One that can't be read, or whose key is
 * not its own (the two files are never replaced in one step), leaves the old one in use until the next try. Polling
 * sees every kind of replacement, also the symbolic links of a Secret's volume.
 * @returns ends the watch.
 */
export function watchCertificate({
  source,
  initial,
  intervalMs,
  log,
  stats,
  use,
}: CertificateWatch): () => void {
  let current = String(initial.cert);
  let lastProblem = '';
  stats.certificateNotAfter = notAfter(initial) / 1000;
  const check = async (): Promise<void> => {
    try {
      const next = await source();
      lastProblem = '';
      if (String(next.cert) === current) return;
      use(next);
      current = String(next.cert);
      stats.certificateReloads++;
      stats.certificateNotAfter = notAfter(next) / 1000;
      log.info({ notAfter: new Date(notAfter(next)).toISOString() }, 'new serving certificate in use');
    } catch (error) {
      stats.certificateFailures++;
      const problem = messageOf(error);
      if (problem !== lastProblem) log.warn({ why: problem }, 'the serving certificate stays as it was');
      lastProblem = problem;
    }
  };
  let running = false;
  const timer = setInterval(() => {
    if (running) return;
    running = true;
    void check().finally(() => {
      running = false;
    });
  }, intervalMs);
  timer.unref();
  return () => clearInterval(timer);
}
