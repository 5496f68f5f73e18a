import { X509Certificate, createPrivateKey } from 'node:crypto';
import { BACKDATE_MS } from '../certs/certificates.ts';
import { splitPem } from '../common/certificate-watch.ts';

/** A CA. Times are Unix time in milliseconds; `from` is when it was made. */
export interface Authority {
  /** PEM. */
  readonly cert: string;
  /** PEM; absent where it is not known, or is another CA's: such a CA is trusted and can't sign. */
  readonly key?: string | undefined;
  readonly from: number;
  readonly to: number;
}

/** A serving certificate that `CertState.ca` issued. */
export interface Leaf {
  readonly cert: string;
  readonly key: string;
  readonly from: number;
  readonly to: number;
  readonly dnsNames: readonly string[];
}

/** What the replicas share. Whatever of it is broken in the Secret is absent here. */
export interface CertState {
  readonly ca?: Authority | undefined;
  /** Issued by `ca`. */
  readonly leaf?: Leaf | undefined;
  /** The CA to come: trusted already, and nothing is served by it yet. */
  readonly next?: Authority | undefined;
  /** When `next` was first seen in every caBundle. */
  readonly nextPublished?: number | undefined;
  /** CAs of before, whose certificates may still be served somewhere. */
  readonly previous: readonly Authority[];
  /** When the last certificate by one of them ends. */
  readonly previousUntil?: number | undefined;
}

export type SecretData = Readonly<Record<string, string>>;

/** Nothing is stored. */
export const EMPTY: CertState = { previous: [] };

/** Keys of the Secret; the first three as kubernetes.io/tls and cert-manager have them. */
const KEY = {
  cert: 'tls.crt',
  key: 'tls.key',
  ca: 'ca.crt',
  caKey: 'ca.key',
  next: 'next-ca.crt',
  nextKey: 'next-ca.key',
  nextPublished: 'next-ca-published',
  previous: 'previous-ca.crt',
  previousUntil: 'previous-ca-until',
} as const;

function belongs(certificate: X509Certificate, key: string | undefined): key is string {
  if (key === undefined || key === '') return false;
  try {
    return certificate.checkPrivateKey(createPrivateKey(key));
  } catch {
    return false;
  }
}

function parseCertificate(pem: string | undefined): X509Certificate | undefined {
  try {
    return new X509Certificate(pem ?? '');
  } catch {
    return undefined;
  }
}

/** Reads a CA from PEM texts; undefined when the first is no certificate of a CA. */
export function readAuthority(cert: string | undefined, key?: string): Authority | undefined {
  const parsed = parseCertificate(cert);
  if (parsed === undefined || !parsed.ca) return undefined;
  return {
    cert: splitPem(cert!)[0]!,
    ...(belongs(parsed, key) ? { key } : {}),
    from: parsed.validFromDate.getTime() + BACKDATE_MS,
    to: parsed.validToDate.getTime(),
  };
}

/** Reads a serving certificate; undefined when it, or its key, is broken or another CA issued it. */
export function readLeaf(cert: string | undefined, key: string | undefined, ca: Authority): Leaf | undefined {
  const parsed = parseCertificate(cert);
  const issuer = new X509Certificate(ca.cert);
  if (parsed === undefined || !belongs(parsed, key)) return undefined;
  if (!parsed.checkIssued(issuer) || !parsed.verify(issuer.publicKey)) return undefined;
  return {
    cert: cert!,
    key,
    from: parsed.validFromDate.getTime() + BACKDATE_MS,
    to: parsed.validToDate.getTime(),
    dnsNames: [...(parsed.subjectAltName ?? '').matchAll(/DNS:([^,\s"]+)/g)].map(([, name]) => name!),
  };
}

function readTime(text: string | undefined): number | undefined {
  const time = Date.parse(text ?? '');
  return Number.isNaN(time) ? undefined : time;
}

/** Reads what a Secret holds, and names the keys whose values can't be used. */
export function readState(data: SecretData): { state: CertState; broken: string[] } {
  const ca = readAuthority(data[KEY.ca], data[KEY.caKey]);
  const leaf = ca === undefined ? undefined : readLeaf(data[KEY.cert], data[KEY.key], ca);
  const next = readAuthority(data[KEY.next], data[KEY.nextKey]);
  const state: CertState = {
    ca,
    leaf,
    next,
    nextPublished: next === undefined ? undefined : readTime(data[KEY.nextPublished]),
    previous: splitPem(data[KEY.previous] ?? '')
      .map((cert) => readAuthority(cert))
      .filter((one) => one !== undefined),
    previousUntil: readTime(data[KEY.previousUntil]),
  };
  const broken = [
    [KEY.ca, ca],
    [KEY.caKey, ca?.key],
    [KEY.cert, leaf],
    [KEY.next, next],
    [KEY.nextKey, next?.key],
  ] as const;
  return {
    state,
    broken: broken
      .filter(([key, read]) => (data[key] ?? '') !== '' && read === undefined)
      .map(([key]) => key),
  };
}

/** What the Secret is to hold; readState() reads the same state from it. */
export function writeState(state: CertState): SecretData {
  const { ca, leaf, next, nextPublished, previous, previousUntil } = state;
  const time = (at: number | undefined): string | undefined =>
    at === undefined ? undefined : new Date(at).toISOString();
  const entries: Record<string, string | undefined> = {
    // A Secret of type kubernetes.io/tls can't be without these two.
    [KEY.cert]: leaf?.cert ?? '',
    [KEY.key]: leaf?.key ?? '',
    [KEY.ca]: ca?.cert,
    [KEY.caKey]: ca?.key,
    [KEY.next]: next?.cert,
    [KEY.nextKey]: next?.key,
    [KEY.nextPublished]: time(nextPublished),
    [KEY.previous]: previous.length === 0 ? undefined : previous.map(({ cert }) => cert).join(''),
    [KEY.previousUntil]: time(previousUntil),
  };
  return Object.fromEntries(
    Object.entries(entries).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
}
