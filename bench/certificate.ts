import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeCa, makeServingCertificate } from '../certs/certificates.ts';

/** A folder that `cleanup` deletes. */
export function temporaryFolder(cleanup: AsyncDisposableStack): string {
  const folder = mkdtempSync(join(tmpdir(), 'quorumbridge-bench-'));
  cleanup.defer(async () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A certificate for localhost: the PEM of its CA, and files. */
export interface Certificate {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  /** Certificate and key in one file. */
  readonly both: string;
}

/** Makes a certificate that lasts a day, for all who end TLS. */
export async function makeCertificate(folder: string): Promise<Certificate> {
  const ca = await makeCa({ commonName: 'bench CA', days: 1 });
  const made = await makeServingCertificate({ ca, dnsNames: ['localhost'], ips: ['127.0.0.1'], days: 1 });
  const files = { cert: made.cert, key: made.key, both: `${made.cert}\n${made.key}` };
  const paths = Object.entries(files).map(([name, text]) => {
    const path = join(folder, `${name}.pem`);
    writeFileSync(path, text);
    return [name, path];
  });
  return { ca: ca.cert, ...(Object.fromEntries(paths) as Omit<Certificate, 'ca'>) };
}
