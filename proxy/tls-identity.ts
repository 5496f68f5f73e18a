import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';

/** The SHA-256 of the certificate that a TLS client showed, '' without one. */
export function tlsIdentityOf(socket: Socket): string {
  if (!(socket instanceof TLSSocket)) return '';
  return socket.getPeerX509Certificate()?.fingerprint256 ?? '';
}
