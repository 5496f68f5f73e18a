// Credentials files for tests, with hashes that cost little.
import { randomBytes, scryptSync } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** What stands for a password in a credentials file: a hash of the smallest cost that is taken. */
export function cheapHash(password: string): string {
  const salt = randomBytes(16);
  const key = scryptSync(password, salt, 32, { N: 1024, r: 1, p: 1 });
  const [encodedSalt, encodedKey] = [salt, key].map((octets) =>
    octets.toString('base64').replaceAll('=', ''),
  );
  return `$scrypt$ln=10,r=1,p=1$${encodedSalt}$${encodedKey}`;
}

/** A client of a credentials file. */
export interface TestClient {
  readonly user: string;
  /** In plain text: the file gets its hash. */
  readonly password?: string;
  readonly certificate?: Readonly<Record<string, string | string[]>>;
  /** The user and the password at the broker. */
  readonly broker?: readonly [user: string, password: string];
}

/** A folder of its own, gone when it is disposed of. */
export class CredentialsFolder implements AsyncDisposable {
  readonly folder: string;
  #count = 0;

  private constructor(folder: string) {
    this.folder = folder;
  }

  static async make(): Promise<CredentialsFolder> {
    return new CredentialsFolder(await mkdtemp(join(tmpdir(), 'quorumbridge-credentials-')));
  }

  /** Writes a credentials file, and files of passwords beside it; its path. */
  async write(...clients: TestClient[]): Promise<string> {
    const entries = await Promise.all(
      clients.map(async ({ user, password, certificate, broker }) => ({
        user,
        ...(password === undefined ? {} : { password: cheapHash(password) }),
        ...(certificate === undefined ? {} : { certificate }),
        ...(broker === undefined
          ? {}
          : { broker: { user: broker[0], 'password-file': await this.file(`${broker[1]}\n`) } }),
      })),
    );
    return this.file(JSON.stringify({ clients: entries }));
  }

  /** Writes a text to a new file; its path. */
  async file(text: string): Promise<string> {
    const path = join(this.folder, `file-${++this.#count}`);
    await writeFile(path, text, { mode: 0o600 });
    return path;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.folder, { recursive: true, force: true });
  }
}
