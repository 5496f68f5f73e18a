import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Check, startAdmin } from '../common/admin.ts';
import { UsageError } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import { createMetrics } from '../common/metrics.ts';
import type { HostPort, OptionValues } from '../common/options.ts';
import { findCluster } from './access.ts';
import { type OwnerLookup, connectOwnerLookup } from './kube.ts';
import { WebhookStats, registerMetrics } from './metrics.ts';
import { mutate } from './mutate.ts';
import type { webhookOptions } from './options.ts';
import { startServer } from './server.ts';
import { type CertificateSource, filesSource, selfSignedSource, watchCertificate } from './tls.ts';

export type WebhookValues = OptionValues<typeof webhookOptions>;

export interface RunningWebhook {
  /** Where HTTPS is served. */
  readonly address: HostPort;
  /** Where health and metrics are served. */
  readonly adminAddress: HostPort;
  /** Fails /readyz, keeps serving for --shutdown-delay, then answers what is under way and ends. */
  close(): Promise<void>;
}

/** Registrations allow 5 s for an admission: an owner that takes longer than this counts as unknown. */
const OWNER_LOOKUP_TIMEOUT_MS = 1500;
const CERTIFICATE_CHECK_MS = 10_000;

async function certificateSource(values: WebhookValues): Promise<CertificateSource> {
  const { tlsCert, tlsKey, selfSigned, caOut, dnsName } = values;
  if (selfSigned) {
    if (tlsCert !== undefined || tlsKey !== undefined) {
      throw new UsageError(
        'option --self-signed makes its own certificate: leave out --tls-cert and --tls-key',
      );
    }
    if (caOut === undefined) {
      throw new UsageError(
        'option --ca-out is required with --self-signed: clients need the CA that it makes',
      );
    }
    return selfSignedSource(caOut, dnsName);
  }
  if (tlsCert === undefined || tlsKey === undefined) {
    const missing = tlsCert === undefined ? 'tls-cert' : 'tls-key';
    throw new UsageError(
      `option --${missing} is required: give --tls-cert FILE and --tls-key FILE, or --self-signed and --ca-out FILE`,
    );
  }
  if (caOut !== undefined || dnsName.length > 0) {
    const given = caOut === undefined ? 'dns-name' : 'ca-out';
    throw new UsageError(`option --${given} is only for --self-signed: leave it out with --tls-cert`);
  }
  return filesSource(tlsCert, tlsKey);
}

async function ownerLookup(values: WebhookValues, log: Logger): Promise<OwnerLookup | undefined> {
  if (values.noCluster) {
    log.info('--no-cluster: deciding from the objects alone');
    return undefined;
  }
  const cluster = await findCluster({
    kubeconfig: values.kubeconfig,
    env: process.env,
    defaultKubeconfig: join(homedir(), '.kube', 'config'),
  });
  if (cluster === undefined) {
    log.warn('no kubeconfig and no service account: deciding from the objects alone');
    return undefined;
  }
  const lookup = await connectOwnerLookup(cluster, OWNER_LOOKUP_TIMEOUT_MS);
  log.info({ server: lookup.server, from: cluster.from }, 'asking the API server for the owners of objects');
  return lookup;
}

/**
 * Starts the admission webhook.
 * @throws UsageError for options that don't go together, TLS files or a kubeconfig that can't be used; Error when an
 *   address can't be listened at.
 */
export async function startWebhook(values: WebhookValues, log: Logger): Promise<RunningWebhook> {
  await using cleanup = new AsyncDisposableStack();
  const stats = new WebhookStats();
  const source = await certificateSource(values);
  const certificate = await source();
  const owners = await ownerLookup(values, log);
  if (owners !== undefined) cleanup.defer(() => owners.close());

  const server = await startServer({
    listen: values.listen,
    certificate,
    admission: { mutate, owners, settings: { image: values.proxyImage }, log, stats },
  });
  cleanup.defer(() => server.close());
  cleanup.defer(
    watchCertificate({
      source,
      initial: certificate,
      intervalMs: CERTIFICATE_CHECK_MS,
      log,
      stats,
      use: (next) => server.setCertificate(next),
    }),
  );

  let closing = false;
  const readyz = (): Check => {
    const reasons: string[] = [];
    if (closing) reasons.push('shutting down');
    if (stats.certificateNotAfter * 1000 <= Date.now()) reasons.push('the serving certificate has expired');
    return { ok: reasons.length === 0, reasons };
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
