import { type KeyObject, createPrivateKey, webcrypto } from 'node:crypto';
import { PemConverter } from '@peculiar/x509';
import { UsageError } from '../common/errors.ts';

/** What a new key is: ECDSA on P-256, or RSA with a modulus of so many bits. */
export type KeyKind = { readonly type: 'ecdsa' } | { readonly type: 'rsa'; readonly bits: number };

/** What makes a signature: the key, and the algorithm that its kind asks for. */
export interface Signer {
  readonly key: webcrypto.CryptoKey;
  readonly algorithm: webcrypto.EcdsaParams & webcrypto.Algorithm;
}

export const ECDSA: KeyKind = { type: 'ecdsa' };

const minRsaBits = 2048;

/** By OpenSSL's names: the curve's, and the hash of its strength (RFC 5480 4). */
const curves: Readonly<Record<string, { readonly namedCurve: string; readonly hash: string }>> = {
  prime256v1: { namedCurve: 'P-256', hash: 'SHA-256' },
  secp384r1: { namedCurve: 'P-384', hash: 'SHA-384' },
  secp521r1: { namedCurve: 'P-521', hash: 'SHA-512' },
};

const rsa = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' };
const ecdsa = { name: 'ECDSA', ...curves['prime256v1']! };

export function generateKeys(kind: KeyKind): Promise<webcrypto.CryptoKeyPair> {
  if (kind.type === 'ecdsa') return webcrypto.subtle.generateKey(ecdsa, true, ['sign', 'verify']);
  const publicExponent = new Uint8Array([1, 0, 1]);
  return webcrypto.subtle.generateKey({ ...rsa, modulusLength: kind.bits, publicExponent }, true, [
    'sign',
    'verify',
  ]);
}

/** The signer that a new key is. */
export function signerOf(kind: KeyKind, key: webcrypto.CryptoKey): Signer {
  return { key, algorithm: kind.type === 'ecdsa' ? ecdsa : rsa };
}

/** A private key as PKCS #8 in PEM. */
export async function exportKey(key: webcrypto.CryptoKey): Promise<string> {
  return `${PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', key), 'PRIVATE KEY')}\n`;
}

function algorithmFor(key: KeyObject): Signer['algorithm'] | undefined {
  const { modulusLength = 0, namedCurve = '' } = key.asymmetricKeyDetails ?? {};
  if (key.asymmetricKeyType === 'rsa') return modulusLength < minRsaBits ? undefined : rsa;
  const curve = curves[namedCurve];
  return key.asymmetricKeyType === 'ec' && curve !== undefined ? { name: 'ECDSA', ...curve } : undefined;
}

/**
 * The signer that a private key in PEM (PKCS #8, PKCS #1 or SEC 1, without a passphrase) is.
 * @throws UsageError for a key of another kind than RSA of at least 2048 bits and ECDSA on P-256, P-384 or P-521.
 */
export function readSigner(pem: string): Signer {
  const key = createPrivateKey(pem);
  const algorithm = algorithmFor(key);
  if (algorithm === undefined) {
    const { modulusLength, namedCurve } = key.asymmetricKeyDetails ?? {};
    const detail = modulusLength === undefined ? namedCurve : `${modulusLength} bits`;
    const kind = [key.asymmetricKeyType, detail].filter((part) => part !== undefined).join(', ');
    throw new UsageError(
      `a CA's key (${kind}) that certificates are not signed with here: expected RSA of at least ${minRsaBits} bits, or ECDSA on P-256, P-384 or P-521`,
    );
  }
  return { key: key.toCryptoKey(algorithm, false, ['sign']), algorithm };
}
