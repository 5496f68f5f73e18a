import { X509Certificate, createPrivateKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import type tls from 'node:tls';
import { UsageError, messageOf } from './errors.ts';

export interface TlsFileSettings {
  readonly certFile: string;
  readonly keyFile: string;
  readonly caFile?: string | undefined;
  /** The options (without dashes) that gave the files, for the errors. */
  readonly optionNames: { readonly cert: string; readonly key: string; readonly ca?: string };
}

/** PEM texts as node:tls takes them; `cert` may hold its chain, `ca` several authorities. */
export interface TlsFiles {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly ca?: Buffer;
}

/** Node's module, loaded when it is first asked for: it takes 2 MiB, and most proxies have all on a pod's loopback. */
export function loadTls(): typeof tls {
  return process.getBuiltinModule('node:tls');
}

export function isEncrypted(socket: Socket): socket is tls.TLSSocket {
  return 'encrypted' in socket;
}

const certificateBlock = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g;

function read(option: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new UsageError(`option --${option}: ${path} cannot be read: ${messageOf(error)}`);
  }
}

function certificates(option: string, path: string, pem: Buffer): X509Certificate[] {
  const blocks = pem.toString('latin1').match(certificateBlock) ?? [];
  if (blocks.length === 0)
    throw new UsageError(`option --${option}: ${path} holds no certificate in PEM form`);
  return blocks.map((block, index) => {
    try {
      return new X509Certificate(block);
    } catch (error) {
      throw new UsageError(
        `option --${option}: certificate ${index + 1} in ${path} cannot be parsed: ${messageOf(error)}`,
      );
    }
  });
}

/**
 * Reads and checks the certificate, the private key and, if given, the authorities.
 * @throws UsageError naming the option and the file: unreadable, not PEM, an encrypted key, or a key that is
 *   not the certificate's. It never repeats what a key file holds.
 */
export function readTlsFiles({ certFile, keyFile, caFile, optionNames }: TlsFileSettings): TlsFiles {
  const cert = read(optionNames.cert, certFile);
  const key = read(optionNames.key, keyFile);
  const [leaf] = certificates(optionNames.cert, certFile, cert);
  let privateKey;
  try {
    privateKey = createPrivateKey(key);
  } catch {
    // OpenSSL's own message differs by version and says less.
    throw new UsageError(
      `option --${optionNames.key}: ${keyFile} holds no private key that can be used: expected PEM without a passphrase`,
    );
  }
  if (!leaf!.checkPrivateKey(privateKey)) {
    throw new UsageError(
      `option --${optionNames.key}: the key in ${keyFile} does not belong to the first certificate in ${certFile} (--${optionNames.cert})`,
    );
  }
  if (caFile === undefined) return { cert, key };
  const option = optionNames.ca ?? 'tls-ca';
  const ca = read(option, caFile);
  certificates(option, caFile, ca);
  return { cert, key, ca };
}
