// reflect-metadata has to come before @peculiar/x509, whose decorators need it.
import 'reflect-metadata';
import { randomBytes } from 'node:crypto';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type Extension,
  type JsonGeneralName,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { UsageError } from '../common/errors.ts';
import { ECDSA, type KeyKind, exportKey, generateKeys, readSigner, signerOf } from './keys.ts';
import { canonicalAddress, isAddress, isDnsName } from './names.ts';

/** A certificate and its private key (PKCS #8), both PEM. */
export interface CertificateAndKey {
  readonly cert: string;
  readonly key: string;
}

const dayMs = 86_400_000;
/** Certificates begin a little in the past, in milliseconds, for peers whose clock is behind. */
export const BACKDATE_MS = 5 * 60_000;
const maxCommonName = 64;

/** 127 random bits: positive, and distinct for as long as anyone will look (RFC 5280 4.1.2.2). */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = (bytes[0]! & 0x7f) | 0x40;
  return bytes.toString('hex');
}

function subject(commonName: string): { CN: string[] }[] {
  if (commonName === '' || commonName.length > maxCommonName) {
    throw new UsageError(
      `common name ${JSON.stringify(commonName)} of a certificate: expected 1 to ${maxCommonName} characters`,
    );
  }
  return [{ CN: [commonName] }];
}

function validity(days: number, now = Date.now(), until = Infinity): { notBefore: Date; notAfter: Date } {
  if (!(days > 0))
    throw new UsageError(`a certificate cannot be valid for ${days} days: expected more than 0`);
  return { notBefore: new Date(now - BACKDATE_MS), notAfter: new Date(Math.min(now + days * dayMs, until)) };
}

/** The purposes a CA's certificate and a leaf's have in common with nothing else (RFC 5280 4.2.1.3, 4.2.1.9). */
const caUsage = [
  new BasicConstraintsExtension(true, 0, true),
  new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
];
function leafUsage({ type }: KeyKind): Extension[] {
  // TLS 1.2 has key exchanges that encrypt to an RSA key.
  const exchange = type === 'rsa' ? KeyUsageFlags.keyEncipherment : 0;
  return [
    new BasicConstraintsExtension(false, undefined, true),
    new KeyUsagesExtension(KeyUsageFlags.digitalSignature | exchange, true),
  ];
}

/**
 * Makes a certificate authority, able to sign leaf certificates only.
 * @throws UsageError when the name has not 1 to 64 characters or `days` is not positive.
 */
export async function makeCa({
  commonName,
  days,
  now,
  key = ECDSA,
}: {
  readonly commonName: string;
  readonly days: number;
  /** When its days begin, Unix time in milliseconds; default: now. */
  readonly now?: number | undefined;
  readonly key?: KeyKind | undefined;
}): Promise<CertificateAndKey> {
  const keys = await generateKeys(key);
  const signer = signerOf(key, keys.privateKey);
  const name = subject(commonName);
  const certificate = await X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: name,
    issuer: name,
    ...validity(days, now),
    publicKey: keys.publicKey,
    signingKey: signer.key,
    signingAlgorithm: signer.algorithm,
    extensions: [...caUsage, await SubjectKeyIdentifierExtension.create(keys.publicKey)],
  });
  return { cert: `${certificate.toString('pem')}\n`, key: await exportKey(keys.privateKey) };
}

interface Leaf {
  readonly ca: CertificateAndKey;
  readonly commonName: string;
  readonly days: number;
  readonly now?: number | undefined;
  readonly key?: KeyKind | undefined;
  readonly extensions: readonly Extension[];
}

/** Other makers of CAs than this one have other ways to a key identifier, and verifiers compare the two. */
async function authorityKeyId(issuer: X509Certificate): Promise<Extension> {
  const id = issuer.getExtension(SubjectKeyIdentifierExtension)?.keyId;
  return id === undefined
    ? AuthorityKeyIdentifierExtension.create(issuer)
    : new AuthorityKeyIdentifierExtension(id);
}

async function makeLeaf({
  ca,
  commonName,
  days,
  now,
  key = ECDSA,
  extensions,
}: Leaf): Promise<CertificateAndKey> {
  const issuer = new X509Certificate(ca.cert);
  const signer = readSigner(ca.key);
  const keys = await generateKeys(key);
  const certificate = await X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: subject(commonName),
    issuer: issuer.subjectName,
    ...validity(days, now, issuer.notAfter.getTime()),
    publicKey: keys.publicKey,
    signingKey: signer.key,
    signingAlgorithm: signer.algorithm,
    extensions: [
      ...leafUsage(key),
      ...extensions,
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
      await authorityKeyId(issuer),
    ],
  });
  return { cert: `${certificate.toString('pem')}\n`, key: await exportKey(keys.privateKey) };
}

function alternativeNames(dnsNames: readonly string[], ips: readonly string[]): JsonGeneralName[] {
  for (const name of dnsNames) {
    if (!isDnsName(name)) {
      throw new UsageError(`${JSON.stringify(name)} is not a DNS name that a certificate can carry`);
    }
  }
  for (const ip of ips) {
    if (!isAddress(ip))
      throw new UsageError(`${JSON.stringify(ip)} is not an IP address that a certificate can carry`);
  }
  const names = [
    ...[...new Set(dnsNames)].map((value): JsonGeneralName => ({ type: 'dns', value })),
    ...[...new Set(ips.map(canonicalAddress))].map((value): JsonGeneralName => ({ type: 'ip', value })),
  ];
  if (names.length === 0) throw new UsageError('a serving certificate needs a DNS name or an IP address');
  return names;
}

/**
 * Makes the certificate of a TLS server for the given DNS names and IP addresses (v4 or v6, no brackets),
 * valid for `days` but never longer than its CA.
 * @throws UsageError for a name or an address that a certificate can't carry, or none at all.
 */
export async function makeServingCertificate({
  ca,
  dnsNames,
  ips,
  days,
  now,
  key,
}: {
  readonly ca: CertificateAndKey;
  readonly dnsNames: readonly string[];
  readonly ips: readonly string[];
  readonly days: number;
  /** When its days begin, Unix time in milliseconds; default: now. */
  readonly now?: number | undefined;
  readonly key?: KeyKind | undefined;
}): Promise<CertificateAndKey> {
  const names = alternativeNames(dnsNames, ips);
  return makeLeaf({
    ca,
    // Nobody matches the common name any more (RFC 9525 2): it tells people what the certificate is for.
    commonName: names.map(({ value }) => value).find((value) => value.length <= maxCommonName) ?? 'server',
    days,
    now,
    key,
    extensions: [
      new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth]),
      new SubjectAlternativeNameExtension(names),
    ],
  });
}

/** A user's name as RabbitMQ can take it from alternative names (ssl_cert_login_from): an address of mail, or a DNS name. */
function clientNames(commonName: string): JsonGeneralName[] {
  if (/^[\w.+-]+@[\w.-]+$/.test(commonName)) return [{ type: 'email', value: commonName }];
  return isDnsName(commonName) ? [{ type: 'dns', value: commonName }] : [];
}

/**
 * Makes the certificate of a TLS client; `commonName` is what RabbitMQ's EXTERNAL authentication takes as user, and
 * an alternative name too where it has the form of one.
 * @throws UsageError when the name has not 1 to 64 characters or `days` is not positive.
 */
export async function makeClientCertificate({
  ca,
  commonName,
  days,
  now,
  key,
}: {
  readonly ca: CertificateAndKey;
  readonly commonName: string;
  readonly days: number;
  /** When its days begin, Unix time in milliseconds; default: now. */
  readonly now?: number | undefined;
  readonly key?: KeyKind | undefined;
}): Promise<CertificateAndKey> {
  const names = clientNames(commonName);
  return makeLeaf({
    ca,
    commonName,
    days,
    now,
    key,
    extensions: [
      new ExtendedKeyUsageExtension([ExtendedKeyUsage.clientAuth]),
      ...(names.length === 0 ? [] : [new SubjectAlternativeNameExtension(names)]),
    ],
  });
}
