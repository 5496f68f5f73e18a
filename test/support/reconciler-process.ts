// `quorumbridge reconciler` as processes of their own, against the API server of a test.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from './ports.ts';
import { Service } from './service.ts';

export interface ReconcilerProcess {
  readonly pid: number;
  /** Such as http://127.0.0.1:12345, with /livez, /readyz and /metrics. */
  readonly adminUrl: string;
  /** Its log so far, one object a line. */
  log(): Record<string, unknown>[];
  /** Whether it says that it works. */
  leads(): Promise<boolean>;
  /** Ends it by SIGTERM and waits for that; the exit code, also of one that has ended by itself. null: it was killed. */
  stop(): Promise<number | null>;
}

/** Starts a reconciler and waits until it sees everything; whether it works is for the Lease to say. */
export async function startReconcilerProcess(
  kubeconfig: string,
  args: readonly string[] = [],
): Promise<ReconcilerProcess> {
  const folder = mkdtempSync(join(tmpdir(), 'quorumbridge-reconciler-'));
  const admin = `127.0.0.1:${await freePort()}`;
  const adminUrl = `http://${admin}`;
  const options = [`--kubeconfig=${kubeconfig}`, `--admin-listen=${admin}`];
  const service = new Service(['reconciler', ...options, ...args], join(folder, 'log'));
  let ended: string | undefined;
  const text = (): string => ended ?? readFileSync(service.logFile, 'utf8');
  const stop = async (): Promise<number | null> => {
    const code = await service.stop();
    ended = text();
    rmSync(folder, { recursive: true, force: true });
    return code;
  };
  try {
    await service.ready(`${adminUrl}/readyz`);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    pid: service.pid,
    adminUrl,
    log: () =>
      text()
        .split('\n')
        .filter((line) => line.startsWith('{') && line.endsWith('}'))
        .map((line) => JSON.parse(line) as Record<string, unknown>),
    stop,
    async leads() {
      const metrics = await fetch(`${adminUrl}/metrics`).then(
        (response) => response.text(),
        () => '',
      );
      return metrics.includes('\nquorumbridge_reconciler_leader 1\n');
    },
  };
}
