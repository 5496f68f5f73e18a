// Certificates of TLS clients with whatever names, also such as `quorumbridge certs` doesn't make.
import 'reflect-metadata';
import { randomBytes } from 'node:crypto';
import {
  AuthorityKeyIdentifierExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type JsonGeneralName,
  SubjectAlternativeNameExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';
import type { CertificateAndKey } from '../../certs/certificates.ts';
import { ECDSA, exportKey, generateKeys, readSigner } from '../../certs/keys.ts';

/** @param commonNames of the subject, in their order  @param names alternative names, in their order */
export async function certificateOf(
  ca: CertificateAndKey,
  commonNames: readonly string[],
  names: readonly JsonGeneralName[] = [],
): Promise<CertificateAndKey> {
  const issuer = new X509Certificate(ca.cert);
  const signer = readSigner(ca.key);
  const keys = await generateKeys(ECDSA);
  const certificate = await X509CertificateGenerator.create({
    serialNumber: `40${randomBytes(8).toString('hex')}`,
    subject: [...commonNames.map((name) => ({ CN: [name] })), { O: ['tests'] }],
    issuer: issuer.subjectName,
    notBefore: new Date(Date.now() - 60_000),
    notAfter: new Date(Date.now() + 3_600_000),
    publicKey: keys.publicKey,
    signingKey: signer.key,
    signingAlgorithm: signer.algorithm,
    extensions: [
      new ExtendedKeyUsageExtension([ExtendedKeyUsage.clientAuth]),
      ...(names.length === 0 ? [] : [new SubjectAlternativeNameExtension([...names])]),
      await AuthorityKeyIdentifierExtension.create(issuer),
    ],
  });
  return { cert: `${certificate.toString('pem')}\n`, key: await exportKey(keys.privateKey) };
}
