import { X509Certificate, randomBytes } from 'node:crypto';
import { isIP } from 'node:net';
import { UsageError } from '../common/errors.ts';
import {
  type CertificateAndKey,
  makeCa,
  makeClientCertificate,
  makeServingCertificate,
} from './certificates.ts';
import type { KeyKind } from './keys.ts';

const DAY_MS = 86_400_000;
const EXPIRED_FOR_MS = 3_600_000;

export interface GenerateSettings {
  /** What the server is reached by: DNS names and IP addresses. */
  readonly hosts: readonly string[];
  readonly clientName: string;
  /** What every new key is. */
  readonly key: KeyKind;
  /** How long the leaves last, but never longer than their CA. */
  readonly days: number;
  /** Whether the leaves ended an hour before `now`. */
  readonly expired: boolean;
  /** How many days a new CA lasts, or the CA to sign with: its certificate first, then its chain. */
  readonly ca: number | CertificateAndKey;
  /** Unix time in milliseconds. */
  readonly now: number;
}

/** What trusts, serves and connects. The certificates hold their chain, all but a root. */
export interface Generated {
  /** Without the key of a CA that was there before. */
  readonly ca: { readonly cert: string; readonly key?: string };
  readonly server: CertificateAndKey;
  readonly client: CertificateAndKey;
}

const block = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g;

function isRoot(pem: string): boolean {
  const certificate = new X509Certificate(pem);
  return certificate.checkIssued(certificate);
}

function split(pem: string): string[] {
  return (pem.match(block) ?? []).map((text) => `${text}\n`);
}

/**
 * Checks that a certificate can sign others at this time.
 * @param pem the certificate first, then its chain up to the root
 * @param where what the error calls it
 * @throws UsageError when it is no CA's, its days have not begun or have ended, or there is no root.
 */
export function checkAuthority(pem: string, where: string, now: number): void {
  const { ca, subject, validFromDate, validToDate } = new X509Certificate(pem);
  const name = subject.replaceAll('\n', ', ');
  if (!ca) {
    throw new UsageError(
      `${where} is not a CA (${name}): expected a certificate that may sign others, such as the ca.crt of another run`,
    );
  }
  if (now >= validToDate.getTime() || now < validFromDate.getTime()) {
    throw new UsageError(
      `${where} (${name}) is valid from ${validFromDate.toISOString()} to ${validToDate.toISOString()}, not now: give another CA, or none to make a new one`,
    );
  }
  if (!split(pem).some(isRoot)) {
    throw new UsageError(
      `${where} (${name}) has no root, and peers that trust an intermediate CA alone are few: put its chain behind it, up to the root`,
    );
  }
}

/**
 * Makes the certificate and the key of a TLS server and of a client, and of the CA that signs both unless there is one.
 * @throws UsageError for a host or a name that a certificate can't carry, or a CA's key of a kind that is not supported.
 */
export async function generate({
  hosts,
  clientName,
  key,
  days,
  expired,
  ca,
  now,
}: GenerateSettings): Promise<Generated> {
  const begin = expired ? now - EXPIRED_FOR_MS - days * DAY_MS : now;
  const made =
    typeof ca === 'number'
      ? await makeCa({
          // Verifiers look for issuers by name: two CAs of one name in a trust store are one too many.
          commonName: `Quorumbridge CA ${randomBytes(4).toString('hex')}`,
          // Whose leaves begin in the past was there before them.
          days: ca + (now - begin) / DAY_MS,
          now: begin,
          key,
        })
      : undefined;
  const authority = made ?? (ca as CertificateAndKey);
  // What a peer that trusts the root alone has to be shown behind a leaf.
  const chain = split(authority.cert)
    .filter((text) => !isRoot(text))
    .join('');
  const common = { ca: authority, days, now: begin, key };
  const server = await makeServingCertificate({
    ...common,
    dnsNames: hosts.filter((host) => isIP(host) === 0),
    ips: hosts.filter((host) => isIP(host) !== 0),
  });
  const client = await makeClientCertificate({ ...common, commonName: clientName });
  return {
    ca: made ?? { cert: authority.cert },
    server: { cert: server.cert + chain, key: server.key },
    client: { cert: client.cert + chain, key: client.key },
  };
}
