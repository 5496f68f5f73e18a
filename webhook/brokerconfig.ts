import { ANNOTATION } from '../common/contract.ts';
import { authenticationOptions } from './overlay.ts';
import { Refusal } from './refusal.ts';

const ADDITIONAL = ['spec', 'rabbitmq', 'additionalConfig'];

/** The keys of rabbitmq.conf's ini text; a later line beats an earlier one. */
export function readBrokerConfig(text: string): Map<string, string> {
  const entries = text
    .split('\n')
    .map((line) => /^\s*([^#\s=][^=]*?)\s*=\s*([^#]*?)\s*(?:#.*)?$/.exec(line))
    .filter((match) => match !== null)
    .map((match) => [match[1]!, match[2]!] as const);
  return new Map(entries);
}

/**
 * How clients' certificates are verified, which is the proxy's task now: as the broker would have. undefined: not at
 * all. Throws Refusal where clients could not log in any more, or could without the certificate that was required.
 */
export function clientVerification(
  config: Map<string, string>,
  advanced: string,
  hasCa: boolean,
): { auth: 'request' | 'require' | undefined; warnings: string[] } {
  const options = authenticationOptions(advanced);
  const warnings = mechanismWarnings(config, options.mechanisms);
  if (config.get('proxy_protocol') === 'true') {
    warnings.push(
      'proxy_protocol = true: the proxy does not read the PROXY protocol from a load balancer in front of it',
    );
  }
  const verify =
    options.verify ?? config.get('ssl_options.verify') ?? (hasCa ? 'verify_peer' : 'verify_none');
  const required = (options.failIfNoPeerCert ?? config.get('ssl_options.fail_if_no_peer_cert')) === 'true';
  if (verify !== 'verify_peer') return { auth: undefined, warnings };
  if (hasCa) return { auth: required ? 'require' : 'request', warnings };
  if (required) {
    throw new Refusal(
      ['spec', 'tls', 'caSecretName'],
      'RabbitMQ requires certificates from clients (fail_if_no_peer_cert), but the CA that the proxy would verify them ' +
        'with is not named: set it',
    );
  }
  warnings.push(
    'ssl_options.verify = verify_peer without spec.tls.caSecretName: the proxy does not verify the certificates of clients',
  );
  return { auth: undefined, warnings };
}

/** TLS ends at the proxy: RabbitMQ never sees the certificate that the mechanism EXTERNAL needs. */
function mechanismWarnings(config: Map<string, string>, advanced: string[] | undefined): string[] {
  const configured = [...config]
    .filter(([key]) => key.startsWith('auth_mechanisms.'))
    .map(([, value]) => value);
  const mechanisms = advanced ?? configured;
  if (!mechanisms.includes('EXTERNAL')) return [];
  if (mechanisms.every((mechanism) => mechanism === 'EXTERNAL')) {
    throw new Refusal(
      advanced === undefined ? ADDITIONAL : ['spec', 'rabbitmq', 'advancedConfig'],
      'auth_mechanisms allows EXTERNAL alone, and clients can not log in by certificate through the proxy: ' +
        `allow PLAIN too, or set the annotation ${ANNOTATION.inject}: "false" to go without the proxy`,
    );
  }
  return ['auth_mechanisms has EXTERNAL: clients can not log in by certificate through the proxy'];
}
