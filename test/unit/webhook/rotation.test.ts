import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { Agent } from 'node:https';
import { connect } from 'node:tls';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { makeCa, makeServingCertificate } from '../../../certs/certificates.ts';
import type { HostPort } from '../../../common/options.ts';
import { startWebhook } from '../../../webhook/main.ts';
import { MountedSecret } from '../../support/mounted-secret.ts';
import { admissionReview, https, httpGet, rabbitmqCluster, readableLog, webhookValues } from './harness.ts';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
});
afterEach(() => {
  vi.useRealTimers();
});

/** The serial number of the certificate that a new connection gets. */
async function servedTo(address: HostPort, ca: string): Promise<string> {
  const socket = connect({ ...address, ca });
  await once(socket, 'secureConnect');
  const { serialNumber } = socket.getPeerCertificate();
  socket.destroy();
  return serialNumber;
}

const BODY = JSON.stringify(
  admissionReview(
    rabbitmqCluster({ metadata: { annotations: { 'rabbitmq.openstack.org/enable-proxy': 'true' } } }),
  ),
);

/** Reviews without a pause, on connections of every kind, until it is stopped. */
class Load {
  readonly failures: unknown[] = [];
  kept = 0;
  fresh = 0;
  readonly agent = new Agent({ keepAlive: true, maxSockets: 4 });
  #stopped = false;
  readonly #workers: Promise<void>[];

  constructor(address: HostPort, ca: string) {
    const worker = async (agent: Agent | false): Promise<void> => {
      while (!this.#stopped) {
        try {
          const headers = { 'content-type': 'application/json' };
          const { status, body } = await https(address, ca, { headers, body: BODY, agent });
          const { response } = body as { response: { allowed: boolean; patch?: string } };
          if (status !== 200 || !response.allowed || response.patch === undefined) {
            throw new Error(`answered ${status}`);
          }
          if (agent === false) this.fresh++;
          else this.kept++;
        } catch (error) {
          this.failures.push(error);
        }
      }
    };
    this.#workers = [this.agent, this.agent, this.agent, this.agent, false, false, false].map(async (one) =>
      worker(one as Agent | false),
    );
  }

  /** The sockets that are kept open. */
  get sockets(): string[] {
    const all = [...Object.values(this.agent.sockets), ...Object.values(this.agent.freeSockets)].flat();
    return all.map((socket) => String(socket?.localPort));
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#workers);
    this.agent.destroy();
  }
}

describe('a Secret that cert-manager renews and the kubelet swaps', () => {
  it('is taken into use under load without a failed review or a closed connection', async () => {
    const cas = [await makeCa({ commonName: 'one', days: 1 }), await makeCa({ commonName: 'two', days: 1 })];
    const issue = async (round: number) => {
      const leaf = await makeServingCertificate({
        ca: cas[round % 2]!,
        dnsNames: [],
        ips: ['127.0.0.1'],
        days: 0.5,
      });
      const files = { 'tls.crt': leaf.cert, 'tls.key': leaf.key, 'ca.crt': cas[round % 2]!.cert };
      return { files, serial: new X509Certificate(leaf.cert).serialNumber };
    };
    const first = await issue(0);
    await using secret = await MountedSecret.mount(first.files);
    const { log, lines } = readableLog();
    const values = webhookValues({ tlsCert: secret.path('tls.crt'), tlsKey: secret.path('tls.key') });
    const running = await startWebhook(values, log);
    const trust = cas.map(({ cert }) => cert).join('');
    try {
      const load = new Load(running.address, trust);
      await vi.waitFor(() => expect(Math.min(load.kept, load.fresh)).toBeGreaterThan(20), 10_000);
      const sockets = load.sockets.toSorted();
      for (let round = 1; round <= 6; round++) {
        const next = await issue(round);
        await secret.update(next.files);
        expect(await servedTo(running.address, trust)).not.toBe(next.serial);
        vi.advanceTimersByTime(10_000);
        await vi.waitFor(
          async () => expect(await servedTo(running.address, trust)).toBe(next.serial),
          10_000,
        );
        const { kept, fresh } = load;
        await vi.waitFor(() => {
          expect(load.kept).toBeGreaterThan(kept + 10);
          expect(load.fresh).toBeGreaterThan(fresh + 10);
        }, 10_000);
      }
      expect(load.sockets.toSorted()).toEqual(sockets);
      await load.stop();
      expect(load.failures).toEqual([]);
      expect(lines.filter(({ msg }) => msg === 'new serving certificate in use')).toHaveLength(6);
      const { body } = await httpGet(running.adminAddress, '/metrics');
      expect(body).toContain('quorumbridge_webhook_certificate_reloads_total 6\n');
    } finally {
      await running.close();
    }
  }, 60_000);
});
