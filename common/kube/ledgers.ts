// What the proxies of a cluster know of their clients: what their admin ports answer to GET /clients (docs/report.md has
// the fields).
import { PORT } from '../contract.ts';
import { messageOf } from '../errors.ts';
import { formatHostPort } from '../options.ts';
import type { Json } from './types.ts';

/** A pod, and its IP address where it has one. */
export interface ProxiedPod {
  readonly pod: string;
  readonly address: string | undefined;
}

/** What was made of a pod's ledger, or why it could not be had. */
export type Told<T extends object> =
  | ({ readonly pod: string } & T)
  | { readonly pod: string; readonly why: string };

/** The end that requests have together, and what is said of one that failed. */
export interface Deadline {
  readonly signal: AbortSignal;
  readonly explain: (error: unknown) => string;
}

/** More pods than a RabbitMQ cluster has; one question must not turn into a scan. */
const PODS_MAX = 32;
/** A full ledger of 1000 clients is below 2 MB. */
const ANSWER_MAX = 8 * 1024 * 1024;

/** An end in so many milliseconds, or with the signal. */
export function deadlineIn(timeoutMs: number, signal?: AbortSignal): Deadline {
  const timeout = AbortSignal.timeout(timeoutMs);
  return {
    signal: signal === undefined ? timeout : AbortSignal.any([timeout, signal]),
    explain: (error) => (timeout.aborted ? `no answer within ${timeoutMs} ms` : messageOf(error)),
  };
}

/**
 * Asks the proxies of all pods at the same time. Never rejects: of a pod that can't be asked it is said why.
 * @param read makes of a ledger what is to be kept of it; throws Error for what is none, whose message then is the why
 */
export async function askProxies<T extends object>(
  pods: readonly ProxiedPod[],
  read: (document: Json) => T,
  { signal, explain }: Deadline,
  adminPort: number = PORT.admin,
): Promise<Told<T>[]> {
  const told = pods.slice(0, PODS_MAX).map(async ({ pod, address }): Promise<Told<T>> => {
    if (address === undefined) return { pod, why: 'it has no address yet' };
    try {
      const url = `http://${formatHostPort({ host: address, port: adminPort })}/clients`;
      return { pod, ...read(await fetchJson(url, signal)) };
    } catch (error) {
      return { pod, why: explain(error) };
    }
  });
  const left = pods.slice(PODS_MAX).map(({ pod }): Told<T> => ({ pod, why: `more than ${PODS_MAX} pods` }));
  return [...(await Promise.all(told)), ...left];
}

async function fetchJson(url: string, signal: AbortSignal): Promise<Json> {
  const response = await fetch(url, { signal, redirect: 'error', headers: { accept: 'application/json' } });
  if (response.status !== 200) {
    await response.body?.cancel();
    throw new Error(`it answered ${response.status}`);
  }
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body ?? []) {
    size += chunk.length;
    if (size > ANSWER_MAX) throw new Error(`it answered more than ${ANSWER_MAX} octets`);
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString()) as Json;
  } catch {
    throw new Error('it answered something else than JSON'); // without the parser's words, which quote it
  }
}

/** For a document that has not what a ledger has. */
export function noLedger(): Error {
  return new Error('it answered something else than a ledger');
}
