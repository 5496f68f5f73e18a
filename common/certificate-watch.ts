import { X509Certificate } from 'node:crypto';
import { messageOf } from './errors.ts';
import type { Logger } from './log.ts';

/** What a TLS server serves with, all PEM. */
export interface ServingCertificate {
  /** The certificate, with its chain if any. */
  readonly cert: string | Buffer;
  readonly key: string | Buffer;
  /** Authorities, where they come and go with the certificate: its own ones or those of clients. */
  readonly ca?: string | Buffer | undefined;
}

/** What happened to a server's certificate since the start, and when it ends. */
export class CertificateStats {
  /** Certificates taken into use after the first one. */
  reloads = 0;
  /** Tries to get the certificate that failed. */
  failures = 0;
  /** End of the validity of what is served, Unix time in seconds; 0 where there is no certificate. */
  notAfter = 0;
  /** The same of its authorities, the one that ends first; 0 where they are not known. */
  caNotAfter = 0;
}

/** Gives the certificate to serve with now; asked again and again, it gives another one once there is one. */
export type CertificateSource<C extends ServingCertificate = ServingCertificate> = () => Promise<C>;

export interface CertificateWatch<C extends ServingCertificate> {
  readonly source: CertificateSource<C>;
  /** What is served with now. */
  readonly initial: C;
  readonly intervalMs: number;
  readonly log: Logger;
  readonly stats: CertificateStats;
  /** Takes another one into use; throws, and leaves the old one in use, when it can't be. */
  readonly use: (certificate: C) => void;
}

const certificateBlock = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g;

/** The certificates of a PEM text, one by one and in their order, each ending in a newline. */
export function splitPem(pem: string | Buffer): string[] {
  return (pem.toString('latin1').match(certificateBlock) ?? []).map((block) => `${block}\n`);
}

/** End of a certificate's validity, Unix time in milliseconds; of a chain its first one's. Throws for what is none. */
export function notAfter(pem: string | Buffer): number {
  return new X509Certificate(pem).validToDate.getTime();
}

function note(stats: CertificateStats, { cert, ca }: ServingCertificate): void {
  stats.notAfter = notAfter(cert) / 1000;
  stats.caNotAfter = ca === undefined ? 0 : Math.min(...splitPem(ca).map(notAfter)) / 1000;
}

function fingerprint({ cert, ca }: ServingCertificate): string {
  return `${String(cert)}\n${String(ca)}`;
}

/**
 * Asks the source at every interval and takes a changed certificate, or changed authorities, into use. One that can't
 * be read, or whose key is not its own (two files are never replaced in one step), leaves the old one in use until the
 * next try. Polling sees every kind of replacement, also the symbolic links of a Secret's volume.
 * @returns ends the watch.
 */
export function watchCertificate<C extends ServingCertificate>({
  source,
  initial,
  intervalMs,
  log,
  stats,
  use,
}: CertificateWatch<C>): () => void {
  let current = fingerprint(initial);
  let lastProblem = '';
  note(stats, initial);
  const check = async (): Promise<void> => {
    try {
      const next = await source();
      lastProblem = '';
      if (fingerprint(next) === current) return;
      use(next);
      current = fingerprint(next);
      stats.reloads++;
      note(stats, next);
      log.info({ notAfter: new Date(stats.notAfter * 1000).toISOString() }, 'new serving certificate in use');
    } catch (error) {
      stats.failures++;
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
