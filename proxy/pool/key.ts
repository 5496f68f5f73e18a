import { createHmac, randomBytes } from 'node:crypto';
import type { Credentials } from './login.ts';

/** Of this process alone: a key that gets out (a core dump's neighbour, a log) can't be tried against passwords elsewhere. */
const SECRET = randomBytes(32);

/**
 * What a login is known by: who it is, the mechanism and its whole response, and the TLS identity of the client. The same
 * for the same login only, and nothing of the password can be had from it.
 * @param tlsIdentity what the client's certificate says, '' without one
 */
export function credentialKey(credentials: Credentials, tlsIdentity: string): string {
  return digest(credentials, tlsIdentity, []);
}

/** What clients must have in common to share connections to the broker: the login ({@link credentialKey}) and the virtual host. */
export function poolKey(credentials: Credentials, virtualHost: string, tlsIdentity: string): string {
  return digest(credentials, tlsIdentity, [virtualHost]);
}

function digest({ user, mechanism, response }: Credentials, tlsIdentity: string, more: string[]): string {
  const hmac = createHmac('sha256', SECRET);
  const known = user === undefined ? [] : [user];
  // Each part behind its length, and the number of parts first: no two lists of parts have the same octets.
  for (const part of [
    `${known.length} ${more.length}`,
    mechanism,
    response,
    tlsIdentity,
    ...known,
    ...more,
  ]) {
    const octets = typeof part === 'string' ? Buffer.from(part) : part;
    hmac.update(`${octets.length} `).update(octets);
  }
  return hmac.digest('base64url');
}
