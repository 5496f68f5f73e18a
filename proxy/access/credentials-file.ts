import { readFileSync } from 'node:fs';
import { UsageError } from '../../common/errors.ts';
import { parseYaml, type YamlEntry, type YamlNode } from '../../common/yaml.ts';
import { compileGlob, type Glob } from '../policy/glob.ts';
import { Reader } from '../policy/reader.ts';
import type { CertificateNames } from './certificate-names.ts';
import { parsePasswordHash, PASSWORD_MAX, type PasswordHash } from './password-hash.ts';

/** A user of the broker, and its password. */
export interface BrokerLogin {
  readonly user: string;
  readonly password: string;
}

/** Who is let in by a password. */
export interface PasswordClient {
  readonly user: string;
  readonly password: PasswordHash;
  /** How it is logged in at the broker; undefined: as it logs in here. */
  readonly broker: BrokerLogin | undefined;
}

/** Names of certificates by their kind; a certificate has to have one of each kind that is there. */
export type CertificateMatch = Partial<Record<keyof CertificateNames, readonly Glob[]>>;

/** Who is let in by a certificate. */
export interface CertificateClient {
  readonly user: string;
  readonly certificate: CertificateMatch;
  readonly broker: BrokerLogin;
}

/** What a credentials file says. */
export interface CredentialsFile {
  /** No two have the same user. */
  readonly byPassword: readonly PasswordClient[];
  /** The first one that a certificate fits is it. */
  readonly byCertificate: readonly CertificateClient[];
  /** The paths of the files that passwords were read from. */
  readonly passwordFiles: readonly string[];
}

/** The keys of a credentials file, and of what is in it. */
export const FILE_KEYS = ['clients'];
export const CLIENT_KEYS = ['user', 'password', 'certificate', 'broker'];
export const CERTIFICATE_KEYS = ['common-name', 'dns-name', 'uri', 'email'] as const;
export const BROKER_KEYS = ['user', 'password-file'];

type Keys = ReadonlyMap<string, YamlEntry>;

/**
 * Reads a credentials file of YAML or JSON, and the files of passwords that it names; docs/access.md says what it holds.
 * @param path names the text in errors
 * @throws UsageError with a line `path:line:column: what is wrong` for each thing that is, without a word of the file
 */
export function parseCredentials(path: string, source: string): CredentialsFile {
  const reader = new FileReader(path);
  const keys = reader.keys(parseSecretYaml(path, source), 'a credentials file', FILE_KEYS);
  const list = keys?.get('clients')?.value;
  if (keys !== undefined && list?.kind !== 'list')
    reader.problem(list?.at ?? '1:1', 'expected a list of clients');
  for (const node of list?.kind === 'list' ? list.items : []) reader.client(node);
  reader.finish();
  return reader;
}

/** Errors of the parser may quote what they are about. */
function parseSecretYaml(path: string, source: string): YamlNode {
  try {
    return parseYaml(path, source);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    const [, place = '1:1'] = /^(\d+:\d+)/.exec(error.message.slice(path.length + 1)) ?? [];
    throw new UsageError(`${path}:${place}: this is no YAML that can be read: see that texts are in quotes`);
  }
}

class FileReader extends Reader implements CredentialsFile {
  readonly byPassword: PasswordClient[] = [];
  readonly byCertificate: CertificateClient[] = [];
  readonly passwordFiles: string[] = [];

  constructor(path: string) {
    super(path, true);
  }

  client(node: YamlNode): void {
    const keys = this.keys(node, 'a client', CLIENT_KEYS);
    if (keys === undefined) return;
    const user = this.#text(node, keys, 'user', 'a client', parseUser);
    const hash = keys.get('password');
    const certificate = keys.get('certificate');
    const broker = keys.get('broker');
    const login = broker === undefined ? undefined : this.#broker(broker.value);
    if ((hash === undefined) === (certificate === undefined)) {
      this.problem(node.at, 'a client is let in by a password or by a certificate: it needs one of the two');
    } else if (hash !== undefined) {
      const password = this.parsed(hash.value, 'a hash of a password', parsePasswordHash);
      if (this.byPassword.some((other) => other.user === user))
        this.problem(node.at, 'another client has this user, and a password, too');
      else if (user !== undefined && password !== undefined)
        this.byPassword.push({ user, password, broker: login });
    } else if (certificate !== undefined) {
      const match = this.#certificate(certificate.value);
      if (broker === undefined)
        this.problem(node.at, 'a client with a certificate needs a user of the broker: give it "broker"');
      else if (user !== undefined && match !== undefined && login !== undefined)
        this.byCertificate.push({ user, certificate: match, broker: login });
    }
  }

  #certificate(node: YamlNode): CertificateMatch | undefined {
    const keys = this.keys(node, 'certificate', CERTIFICATE_KEYS);
    if (keys === undefined) return undefined;
    if (keys.size === 0)
      return this.problem(node.at, `certificate needs a name: one of ${CERTIFICATE_KEYS.join(', ')}`);
    const match: Partial<Record<keyof CertificateNames, Glob[]>> = {};
    for (const kind of CERTIFICATE_KEYS) {
      const entry = keys.get(kind);
      if (entry !== undefined) match[kind] = this.oneOrMore(entry.value, 'a pattern', compileGlob);
    }
    return match;
  }

  #broker(node: YamlNode): BrokerLogin | undefined {
    const keys = this.keys(node, 'broker', BROKER_KEYS);
    if (keys === undefined) return undefined;
    const user = this.#text(node, keys, 'user', 'broker', parseUser);
    const password = this.#text(node, keys, 'password-file', 'broker', (file) => {
      this.passwordFiles.push(file);
      return readPassword(file);
    });
    return user === undefined || password === undefined ? undefined : { user, password };
  }

  #text(node: YamlNode, keys: Keys, key: string, what: string, parse: (text: string) => string) {
    const entry = keys.get(key);
    if (entry === undefined) return this.problem(node.at, `${what} needs "${key}"`);
    return this.parsed(entry.value, 'a text', parse);
  }
}

/** The octets that a user or a password may have: SASL's PLAIN parts them by the octet 0. */
function checkOctets(text: string, max: number, problem = ''): string {
  const size = Buffer.byteLength(text);
  if (size === 0 || size > max || text.includes('\0'))
    throw new Error(`${problem}expected 1 to ${max} octets, none of them 0`);
  return text;
}

function parseUser(text: string): string {
  return checkOctets(text, 255);
}

/** The text of a file, without the end of its line. Its path isn't repeated, since it might be a password itself. */
function readPassword(file: string): string {
  const text = readText(file);
  if (typeof text !== 'string') throw new Error(`the file cannot be read: ${text.code}`);
  return checkOctets(text.replace(/\r?\n$/, ''), PASSWORD_MAX, 'what the file holds is no password: ');
}

function readText(file: string): string | NodeJS.ErrnoException {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    return error as NodeJS.ErrnoException;
  }
}
