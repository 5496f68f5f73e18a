import { readFile } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { UsageError, messageOf } from '../../common/errors.ts';
import { formatHostPort, hostPort } from '../../common/options.ts';
import type { LedgerDocument } from '../../proxy/ledger-document.ts';
import { Invalid, readLedger } from './ledger.ts';

/** What one proxy remembers, and where it was read. */
export interface Source {
  /** Without credentials: a URL, a path, or `standard input`. */
  readonly name: string;
  readonly ledger: LedgerDocument;
}

/** More octets than any ledger has: an answer that does not end must not fill the memory. */
const SIZE_MAX = 256 * 1024 * 1024;

/**
 * Reads the ledgers of several proxies, all at once. What is given twice is read once.
 * @param from URLs, HOST:PORT, files, or - for standard input
 * @param timeoutMs milliseconds that each proxy has to answer
 * @throws UsageError naming each that can't be read, and why
 */
export async function readSources(
  from: readonly string[],
  { stdin, timeoutMs }: { stdin: Readable; timeoutMs: number },
): Promise<Source[]> {
  const read = await Promise.allSettled([...new Set(from)].map((each) => readSource(each, stdin, timeoutMs)));
  const failures = read.filter((each) => each.status === 'rejected').map(({ reason }) => messageOf(reason));
  if (failures.length > 0) throw new UsageError(failures.map((text) => `option --from: ${text}`).join('\n'));
  return read.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
}

async function readSource(from: string, stdin: Readable, timeoutMs: number): Promise<Source> {
  const url = urlOf(from);
  const name = url?.href ?? (from === '-' ? 'standard input' : from);
  let text: string | undefined;
  try {
    if (url !== undefined) text = await fetchText(url, timeoutMs);
    else text = from === '-' ? await textOf(stdin) : await readFile(from, 'utf8');
  } catch (error) {
    if (isTimeout(error)) text = undefined;
    else throw new Error(`${name} cannot be read`, { cause: error });
  }
  if (text === undefined)
    throw new Error(`${name} cannot be read: no answer within ${timeoutMs / 1000} s (--timeout)`);
  try {
    return { name, ledger: readLedger(text) };
  } catch (error) {
    if (!(error instanceof Invalid)) throw error;
    throw new Error(`${name} is not what a proxy's /clients answers`, { cause: error });
  }
}

/** The URL that is meant, or undefined: a file. */
function urlOf(from: string): URL | undefined {
  if (!/^https?:\/\//i.test(from)) return URL.parse(addressOf(from) ?? '') ?? undefined;
  const url = URL.parse(from);
  if (url === null) throw new Error(`${from.replace(/\/\/[^/]*@/, '//')} is no URL`);
  if (url.username !== '' || url.password !== '')
    throw new Error(`a URL of ${url.host} has a user or a password in it: the admin port asks for none`);
  if (url.pathname === '/') url.pathname = '/clients';
  return url;
}

function addressOf(from: string): string | undefined {
  try {
    return `http://${formatHostPort(hostPort()(from))}/clients`;
  } catch {
    return undefined;
  }
}

function isTimeout(error: unknown): boolean {
  return error instanceof Error && error.name === 'TimeoutError';
}

async function fetchText(url: URL, timeoutMs: number): Promise<string> {
  const response = await fetch(url, { signal: AbortSignal.timeout(timeoutMs), redirect: 'error' });
  if (response.status !== 200) {
    await response.body?.cancel();
    throw new Error(`it answered ${response.status}`);
  }
  return textOf(response.body ?? []);
}

async function textOf(octets: AsyncIterable<Uint8Array | string> | Iterable<Uint8Array>): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of octets) {
    chunks.push(Buffer.from(chunk));
    size += chunk.length;
    if (size > SIZE_MAX) throw new Error(`more than ${SIZE_MAX} octets`);
  }
  return Buffer.concat(chunks).toString();
}
