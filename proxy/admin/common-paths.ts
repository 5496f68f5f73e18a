import type { Description } from './operation.ts';

function get(path: string, summary: string, rest: Pick<Description, 'content' | 'refusals'>): Description {
  return { method: 'GET', path, open: true, summary, status: 200, inPath: {}, parameters: [], ...rest };
}

const health = {
  content: { type: 'text/plain', description: 'ok' },
  refusals: { 503: 'not ok, and why, one reason a line' },
};

/** What the admin port has besides the operations: probes, metrics and the ledger. */
export const COMMON_PATHS: readonly Description[] = [
  get('/livez', 'Whether the process is worth keeping.', health),
  get('/readyz', 'Whether it should get clients.', health),
  get('/metrics', "Metrics in Prometheus' text format.", {
    content: { type: 'text/plain', description: 'version 0.0.4' },
    refusals: {},
  }),
  get('/clients', 'Who is connected, what they use that RabbitMQ 4 refuses, and who needs the proxy.', {
    content: { type: 'application/json', schema: 'Clients', description: 'the ledger' },
    refusals: {},
  }),
];
