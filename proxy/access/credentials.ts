import { readFileSync } from 'node:fs';
import { messageOf, UsageError } from '../../common/errors.ts';
import { CERTIFICATE_KEYS, type CertificateClient, type CredentialsFile } from './credentials-file.ts';
import { parseCredentials, type PasswordClient } from './credentials-file.ts';
import type { CertificateNames } from './certificate-names.ts';
import { nobodysHash, type PasswordHash } from './password-hash.ts';

/** Who may log in at the proxy, and as whom it then logs in at the broker. It never changes: a file is read anew. */
export class Credentials {
  /** The paths of all files that it was read from. */
  readonly files: readonly string[];
  /** What the passwords of users are tried against that aren't there; undefined where nobody has a password. */
  readonly nobody: PasswordHash | undefined;
  readonly #byPassword: ReadonlyMap<string, PasswordClient>;
  readonly #byCertificate: readonly CertificateClient[];

  private constructor(path: string, { byPassword, byCertificate, passwordFiles }: CredentialsFile) {
    this.files = [path, ...passwordFiles];
    const [first] = byPassword;
    this.nobody = first === undefined ? undefined : nobodysHash(first.password);
    this.#byPassword = new Map(byPassword.map((client) => [client.user, client]));
    this.#byCertificate = byCertificate;
  }

  /** @throws UsageError when the file can't be read or is no credentials file, or a file that it names can't be read */
  static read(path: string): Credentials {
    let source: string;
    try {
      source = readFileSync(path, 'utf8');
    } catch (error) {
      throw new UsageError(`option --credentials: ${path} cannot be read: ${messageOf(error)}`);
    }
    return new Credentials(path, parseCredentials(path, source));
  }

  /** Whether there are clients that are let in by a certificate. */
  get knowsCertificates(): boolean {
    return this.#byCertificate.length > 0;
  }

  /** The client that has this user, and a password. */
  byUser(user: string): PasswordClient | undefined {
    return this.#byPassword.get(user);
  }

  /** The first client that a certificate with these names fits. */
  byCertificate(names: CertificateNames): CertificateClient | undefined {
    return this.#byCertificate.find(({ certificate }) =>
      CERTIFICATE_KEYS.every((kind) => {
        const globs = certificate[kind];
        return globs === undefined || names[kind].some((name) => globs.some((fits) => fits(name)));
      }),
    );
  }
}

/** The paths of all files that a credentials file is read from, as far as it can be read. */
export function filesOfCredentials(path: string): readonly string[] {
  try {
    return Credentials.read(path).files;
  } catch (error) {
    if (error instanceof UsageError) return [path];
    throw error;
  }
}
