import { rename, stat, writeFile } from 'node:fs/promises';
import { type CertificateAndKey, makeCa, makeServingCertificate } from '../certs/certificates.ts';
import { type CertificateSource, notAfter } from '../common/certificate-watch.ts';
import { UsageError, messageOf } from '../common/errors.ts';
import { readTlsFiles } from '../common/tls.ts';

const DAY_MS = 86_400_000;
const CA_DAYS = 3650;
const LEAF_DAYS = 90;
const RENEW_BEFORE_MS = 30 * DAY_MS;

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
    if (notAfter(current.cert) - Date.now() < RENEW_BEFORE_MS) current = await make();
    return { ...current, ca: ca.cert };
  };
}

/** Writes a file that others wait for: a regular one appears whole or not at all, a pipe or device is written to. */
async function publish(path: string, text: string): Promise<void> {
  const present = await stat(path).catch(() => undefined);
  if (present !== undefined && !present.isFile()) return writeFile(path, text);
  await writeFile(`${path}.tmp`, text);
  return rename(`${path}.tmp`, path);
}
