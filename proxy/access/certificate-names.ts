import type { X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import { isEncrypted } from '../../common/tls.ts';

/** The names that a certificate has, by their kind: of its subject the common names, else alternative names (RFC 5280, 4.2.1.6). */
export interface CertificateNames {
  readonly 'common-name': readonly string[];
  readonly 'dns-name': readonly string[];
  readonly uri: readonly string[];
  readonly email: readonly string[];
}

/** How Node writes the kinds of alternative names. */
const KINDS: Readonly<Record<string, 'dns-name' | 'uri' | 'email'>> = {
  DNS: 'dns-name',
  URI: 'uri',
  email: 'email',
};

/** One alternative name: its kind, and a text that is quoted as JSON where it holds anything unusual. */
const ALTERNATIVE_NAME = /([^:,"]+):((?:[^,"]|"(?:[^"\\]|\\.)*")*)(?:, |$)/y;

/** The names in the certificate that a client has shown and that was verified; undefined without one. */
export function certificateNamesOf(socket: Socket): CertificateNames | undefined {
  if (!isEncrypted(socket) || !socket.authorized) return undefined;
  const certificate = socket.getPeerX509Certificate();
  return certificate === undefined ? undefined : readCertificateNames(certificate);
}

export function readCertificateNames(certificate: X509Certificate): CertificateNames {
  const { CN } = certificate.toLegacyObject().subject as { CN?: string | string[] };
  const names = { 'dns-name': [] as string[], uri: [] as string[], email: [] as string[] };
  for (const [kind, text] of alternativeNames(certificate.subjectAltName ?? '')) {
    const key = KINDS[kind];
    if (key !== undefined) names[key].push(text);
  }
  return { 'common-name': CN === undefined ? [] : [CN].flat(), ...names };
}

/** What can't be read, or only in part, is no name at all. */
function alternativeNames(text: string): [kind: string, text: string][] {
  const names: [string, string][] = [];
  const pattern = new RegExp(ALTERNATIVE_NAME);
  while (pattern.lastIndex < text.length) {
    const [, kind, written] = pattern.exec(text) ?? [];
    if (kind === undefined || written === undefined) return [];
    const name = written.startsWith('"') ? unquoted(written) : written;
    if (name !== undefined) names.push([kind, name]);
  }
  return names;
}

function unquoted(written: string): string | undefined {
  try {
    return JSON.parse(written) as string;
  } catch {
    return undefined;
  }
}
