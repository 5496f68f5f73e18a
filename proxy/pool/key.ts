import { hash, randomBytes } from 'node:crypto';
import type { Credentials } from './login.ts';

/** Of this process alone: a key that gets out (a core dump's neighbour, a log) can't be tried against passwords elsewhere. */
const SECRET = randomBytes(32);

/**
 * What a login is known by: who it is, the mechanism and its whole response, and the TLS identity of the client. The same
 * for the same login only, and nothing of the password can be had from it.
 * @param tlsIdentity what the client's certificate says, '' without one
 */
export function credentialKey({ user, mechanism, response }: Credentials, tlsIdentity: string): string {
  // The lengths first: no two logins have the same octets.
  const texts = [mechanism, tlsIdentity, user ?? ''];
  const head = JSON.stringify([user === undefined, response.length, ...texts]);
  // SHA-3 needs no HMAC to keep a secret that stands in front (FIPS 202), and takes a third of its time.
  return hash('sha3-256', Buffer.concat([SECRET, Buffer.from(head), response]), 'base64url');
}

/**
 * What clients must have in common to share connections to the broker: the login and the virtual host.
 * @param credential the {@link credentialKey}
 */
export function poolKey(credential: string, virtualHost: string): string {
  return `${credential} ${virtualHost}`;
}
