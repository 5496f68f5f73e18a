import { setTimeout as delay } from 'node:timers/promises';
import { type Check, startAdmin } from '../common/admin.ts';
import { watchCertificate } from '../common/certificate-watch.ts';
import type { Logger } from '../common/log.ts';
import { createMetrics } from '../common/metrics.ts';
import type { HostPort, OptionValues } from '../common/options.ts';
import { chooseCertificate } from './certificate.ts';
import { WebhookStats, registerMetrics } from './metrics.ts';
import { mutate } from './mutate.ts';
import type { webhookOptions } from './options.ts';
import { startServer } from './server.ts';
import { openSurroundings } from './surroundings.ts';

export type WebhookValues = OptionValues<typeof webhookOptions>;

export interface RunningWebhook {
  /** Where HTTPS is served. */
  readonly address: HostPort;
  /** Where health and metrics are served. */
  readonly adminAddress: HostPort;
  /** Fails /readyz, keeps serving for --shutdown-delay, then answers what is under way and ends. */
  close(): Promise<void>;
}

/**
 * Starts the admission webhook.
 * @throws UsageError for options that don't go together, TLS files or a kubeconfig that can't be used; Error when an
 *   address can't be listened at.
 */
export async function startWebhook(values: WebhookValues, log: Logger): Promise<RunningWebhook> {
  await using cleanup = new AsyncDisposableStack();
  const stats = new WebhookStats();
  const certificate = await chooseCertificate(values, log, stats);
  cleanup.defer(() => certificate.close());
  const surroundings = await openSurroundings(values, log, stats);
  if (surroundings !== undefined) cleanup.defer(() => surroundings.close());

  const server = await startServer({
    listen: values.listen,
    certificate: certificate.initial,
    admission: {
      mutate,
      owners: surroundings?.owners,
      natives: surroundings?.natives,
      clients: { check: values.clientsReconfiguredCheck, ledgers: surroundings?.ledgers },
      settings: { image: values.proxyImage },
      log,
      stats,
    },
  });
  cleanup.defer(() => server.close());
  cleanup.defer(
    watchCertificate({
      ...certificate,
      log,
      stats: stats.certificate,
      use: (next) => server.setCertificate(next),
    }),
  );

  let closing = false;
  const readyz = (): Check => {
    const reasons: string[] = [];
    if (closing) reasons.push('shutting down');
    if (stats.certificate.notAfter * 1000 <= Date.now()) reasons.push('the serving certificate has expired');
    const cache = surroundings?.ready() ?? { ok: true, reasons: [] };
    return { ok: reasons.length === 0 && cache.ok, reasons: [...reasons, ...cache.reasons] };
  };
  const metrics = createMetrics();
  registerMetrics(metrics, stats);
  const admin = await startAdmin({
    listen: values.adminListen,
    log,
    metrics,
    livez: () => ({ ok: true, reasons: [] }),
    readyz,
  });
  log.info({ address: server.address, adminAddress: admin.address }, 'webhook listening');

  const running = cleanup.move();
  return {
    address: server.address,
    adminAddress: admin.address,
    async close() {
      closing = true;
      server.beginDrain();
      await delay(values.shutdownDelay * 1000);
      await running.disposeAsync();
      await admin.close();
    },
  };
}
