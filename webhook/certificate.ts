// Where the serving certificate comes from, by the options.
import { setTimeout as delay } from 'node:timers/promises';
import type { CertificateSource, ServingCertificate } from '../common/certificate-watch.ts';
import { INSTALL } from '../common/contract.ts';
import { UsageError, messageOf } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import type { OptionValues } from '../common/options.ts';
import { findCluster } from '../common/kube/access.ts';
import { checkInterval, secretSource } from './cert-keeper.ts';
import { connectStore } from './cert-store.ts';
import type { WebhookStats } from './metrics.ts';
import type { webhookOptions } from './options.ts';
import { filesSource, selfSignedSource } from './tls.ts';

type Values = Pick<
  OptionValues<typeof webhookOptions>,
  | 'tlsCert'
  | 'tlsKey'
  | 'selfSigned'
  | 'caOut'
  | 'dnsName'
  | 'tlsSecret'
  | 'webhookConfiguration'
  | 'caLifetime'
  | 'certLifetime'
  | 'kubeconfig'
  | 'noCluster'
>;

export interface ChosenCertificate {
  readonly source: CertificateSource;
  readonly initial: ServingCertificate;
  /** How often the source is to be asked, in milliseconds. */
  readonly intervalMs: number;
  close(): Promise<void>;
}

const CHECK_MS = 10_000;
/** How long an API server may be out of reach at the start, and how often it is tried again. */
const START_MS = 30_000;
const START_RETRY_MS = 1000;

/** The names of the Service, as API servers and people may call it. */
function serviceNames(namespace: string): string[] {
  const service = `${INSTALL.name}.${namespace}`;
  return [`${service}.svc`, service, `${service}.svc.cluster.local`];
}

async function fromSecret(values: Values, log: Logger, stats: WebhookStats): Promise<ChosenCertificate> {
  const { tlsSecret, caLifetime, certLifetime } = values;
  if (values.noCluster) {
    throw new UsageError('option --tls-secret needs an API server: leave out --no-cluster');
  }
  if (certLifetime > caLifetime) {
    throw new UsageError(
      `option --cert-lifetime: ${certLifetime} s is longer than --ca-lifetime, ${caLifetime} s: no certificate outlives its CA`,
    );
  }
  const cluster = await findCluster({
    kubeconfig: values.kubeconfig,
    env: process.env,
  });
  if (cluster === undefined) {
    throw new UsageError(
      'option --tls-secret needs an API server: there is no service account here, give --kubeconfig',
    );
  }
  const store = await connectStore(cluster, {
    secret: tlsSecret!,
    registrations: values.webhookConfiguration,
  });
  const dnsNames = ['localhost', ...serviceNames(tlsSecret!.namespace), ...values.dnsName];
  const leafMs = certLifetime * 1000;
  const source = secretSource({ store, dnsNames, caMs: caLifetime * 1000, leafMs, log, stats });
  try {
    const initial = await patiently(source, log);
    log.info({ secret: store.secret, server: store.server }, 'serving certificate from a Secret');
    return { source, initial, intervalMs: checkInterval(leafMs), close: () => store.close() };
  } catch (error) {
    await store.close();
    throw error;
  }
}

/** The first certificate: the API server, or what it permits, may be late by a little at an installation. */
async function patiently(source: CertificateSource, log: Logger): Promise<ServingCertificate> {
  const deadline = Date.now() + START_MS;
  let told = '';
  for (;;) {
    try {
      return await source();
    } catch (error) {
      const why = messageOf(error);
      if (error instanceof UsageError || Date.now() >= deadline) throw error;
      if (why !== told) log.warn({ why }, 'no serving certificate yet: trying again');
      told = why;
    }
    await delay(START_RETRY_MS);
  }
}

function refuse(
  values: Values,
  names: readonly ['tlsCert' | 'tlsKey' | 'caOut', string][],
  why: string,
): void {
  const given = names.find(([property]) => values[property] !== undefined);
  if (given !== undefined) throw new UsageError(`option --${given[1]} ${why}`);
}

async function choose(values: Values): Promise<CertificateSource> {
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
      `option --${missing} is required: give --tls-cert FILE and --tls-key FILE, --tls-secret NAMESPACE/NAME, or --self-signed and --ca-out FILE`,
    );
  }
  if (caOut !== undefined || dnsName.length > 0) {
    const given = caOut === undefined ? 'dns-name' : 'ca-out';
    throw new UsageError(`option --${given} is only for --self-signed: leave it out with --tls-cert`);
  }
  return filesSource(tlsCert, tlsKey);
}

/**
 * Gets the first serving certificate.
 * @throws UsageError for options that don't go together or files that can't be used; Error when there is no
 *   certificate to be had from the cluster.
 */
export async function chooseCertificate(
  values: Values,
  log: Logger,
  stats: WebhookStats,
): Promise<ChosenCertificate> {
  if (values.tlsSecret !== undefined) {
    const why = 'does not go together with --tls-secret: leave one of them out';
    refuse(
      values,
      [
        ['tlsCert', 'tls-cert'],
        ['tlsKey', 'tls-key'],
        ['caOut', 'ca-out'],
      ],
      why,
    );
    if (values.selfSigned) throw new UsageError(`option --self-signed ${why}`);
    return fromSecret(values, log, stats);
  }
  const source = await choose(values);
  return { source, initial: await source(), intervalMs: CHECK_MS, close: async () => {} };
}
