import type { Socket } from 'node:net';
import { isEncrypted } from '../common/tls.ts';

/** The SHA-256 of the certificate that a TLS client showed, '' without one. */
export function tlsIdentityOf(socket: Socket): string {
  if (!isEncrypted(socket)) return '';
  return socket.getPeerX509Certificate()?.fingerprint256 ?? '';
}
