// `quorumbridge webhook` as a process on loopback, for an API server that runs here.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from './ports.ts';
import { Service } from './service.ts';

export interface WebhookProcess {
  /** Of its handler for admission reviews; with 127.0.0.1, which the certificate has. */
  url: string;
  /** Of /livez, /readyz and /metrics. */
  adminUrl: string;
  /** The CA of its certificate, PEM. */
  ca: string;
  /** What it logged so far. */
  log(): string;
  /** SIGTERM; the exit code. */
  stop(): Promise<number | null>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Starts it with a certificate of its own, asking the API server of that kubeconfig, and waits until it is ready. */
export async function startWebhookProcess(kubeconfig: string, args: string[] = []): Promise<WebhookProcess> {
  const folder = mkdtempSync(join(tmpdir(), 'quorumbridge-webhook-'));
  const listen = `127.0.0.1:${await freePort()}`;
  const admin = `127.0.0.1:${await freePort()}`;
  const caFile = join(folder, 'ca.crt');
  const options = [`--listen=${listen}`, `--admin-listen=${admin}`, '--self-signed', `--ca-out=${caFile}`];
  const service = new Service(
    ['webhook', ...options, `--kubeconfig=${kubeconfig}`, '--shutdown-delay=0', ...args],
    join(folder, 'log'),
  );
  const stop = async () => {
    const code = await service.stop();
    rmSync(folder, { recursive: true, force: true });
    return code;
  };
  try {
    await service.ready(`http://${admin}/readyz`);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    url: `https://${listen}/mutate`,
    adminUrl: `http://${admin}`,
    ca: readFileSync(caFile, 'utf8'),
    log: () => readFileSync(service.logFile, 'utf8'),
    stop,
    [Symbol.asyncDispose]: async () => void (await stop()),
  };
}
