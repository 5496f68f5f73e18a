import { request } from 'node:https';
import { INSTALL } from '../common/contract.ts';
import { median, out, quantile, runToEnd } from './peers.ts';
import { injectingReview, largeStatefulSet, type Review } from './reviews.ts';
import { cpuOf } from './proc.ts';
import { type Server, startNoOp, startWebhook } from './servers.ts';

// What 100 AdmissionReviews of a large StatefulSet at once cost `quorumbridge webhook`, which injects the proxy in each,
// next to a Fastify handler that allows all without looking (no-op.ts): what it is to read, decide and patch. A time is
// from the start of the hundred to the end of its own answer, so that it has the wait for those before it. Both keep
// their connections, and this process shares the machine with them.
// Run on Linux: node bench/admissions.ts [ROUNDS]. Loopback only, about 25 s.

const AT_ONCE = 100;
/** Hundreds in a round, by turns: enough for a p99. */
const WAVES = 8;
const WARM_UP_WAVES = 5;
const TIMEOUT_MS = 30_000;

const rounds = Number(process.argv[2] ?? 3);
if (!Number.isInteger(rounds) || rounds < 1 || rounds > 20) {
  throw new Error(`ROUNDS is ${process.argv[2]}: expected a whole number from 1 to 20`);
}

function post({ port, agent }: Server, body: Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json', 'content-length': body.length };
    const outgoing = request({
      host: '127.0.0.1',
      port,
      path: INSTALL.path.mutate,
      method: 'POST',
      agent,
      headers,
      timeout: TIMEOUT_MS,
    });
    outgoing.on('timeout', () => outgoing.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)));
    outgoing.on('error', reject);
    outgoing.on('response', (incoming) => {
      const chunks: Buffer[] = [];
      incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
      incoming.on('error', reject);
      incoming.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8');
        if (incoming.statusCode === 200) resolve(text);
        else reject(new Error(`HTTP ${incoming.statusCode}: ${text.slice(0, 300)}`));
      });
    });
    outgoing.end(body);
  });
}

/** Sends all reviews at once; milliseconds to each answer. */
async function wave(server: Server, reviews: readonly Review[]): Promise<number[]> {
  const start = performance.now();
  const answered = await Promise.all(
    reviews.map(async ({ body }) => ({ answer: await post(server, body), ms: performance.now() - start })),
  );
  for (const [i, { answer }] of answered.entries()) server.check(reviews[i]!, answer);
  return answered.map(({ ms }) => ms);
}

/** In milliseconds. */
interface Cost {
  readonly p50: number;
  readonly p99: number;
  readonly cpu: number;
}

/** One round: both servers by turns, wave for wave. */
async function measure(servers: readonly Server[], reviews: readonly Review[]): Promise<Cost[]> {
  const before = servers.map(({ pid }) => cpuOf(pid));
  const times = servers.map((): number[] => []);
  for (let i = 0; i < WAVES; i++) {
    for (const [at, server] of servers.entries()) times[at]!.push(...(await wave(server, reviews)));
  }
  return servers.map(({ pid }, at) => ({
    p50: quantile(times[at]!, 0.5),
    p99: quantile(times[at]!, 0.99),
    cpu: (cpuOf(pid) - before[at]!) / 1000 / times[at]!.length,
  }));
}

function report(costs: readonly Cost[][], octets: { object: number; body: number }): void {
  const size = (count: number) => `${(count / 1000).toFixed(0)} KB`;
  out(`${AT_ONCE} reviews at once, object ${size(octets.object)}, body ${size(octets.body)};`);
  out(`medians of ${rounds} interleaved rounds of ${WAVES * AT_ONCE} each, Node ${process.versions.node}`);
  const row = (name: string, cells: readonly string[]): void =>
    out(name.padEnd(10) + cells.map((cell) => cell.padStart(19)).join(''));
  const medians = (at: number): number[] =>
    (['p50', 'p99', 'cpu'] as const).map((key) => median(costs.map((cost) => cost[at]![key])));
  const digits = [0, 0, 2];
  const cells = (values: number[]): string[] => values.map((value, i) => value.toFixed(digits[i]));
  const [own, peer] = [medians(0), medians(1)];
  row('server', ['p50 ms', 'p99 ms', 'CPU ms a review']);
  row('webhook', cells(own));
  row('no-op', cells(peer));
  row(
    'ratio',
    own.map((value, i) => (value / peer[i]!).toFixed(2)),
  );
}

async function run(cleanup: AsyncDisposableStack): Promise<void> {
  const servers = [await startWebhook(AT_ONCE, cleanup), await startNoOp(AT_ONCE, cleanup)];
  const stored = largeStatefulSet();
  const reviews = Array.from({ length: AT_ONCE }, () => injectingReview(stored));
  for (let i = 0; i < WARM_UP_WAVES; i++) {
    for (const server of servers) await wave(server, reviews);
  }
  const costs: Cost[][] = [];
  for (let round = 0; round < rounds; round++) costs.push(await measure(servers, reviews));
  report(costs, { object: Buffer.byteLength(JSON.stringify(stored)), body: reviews[0]!.body.length });
}

await runToEnd(run);
