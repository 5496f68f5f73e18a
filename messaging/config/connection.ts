import type { RootValues } from './table.ts';
import type { Check, ConnectionConfig, TlsConfig } from './types.ts';

const URL_PARTS = ['host', 'port', 'username', 'password', 'vhost'] as const;

/** The connection of a file: its url or its single keys, and what the environment overrides. */
export function connectionOf(root: RootValues, check: Check): ConnectionConfig {
  const { url } = root;
  for (const part of URL_PARTS) {
    // What the environment gives has no place in the file, and overrides the url.
    if (url !== undefined && check.isGiven(root, part) && check.placeOf(root, part) !== '')
      check.problem(check.placeOf(root, part), `key "${part}" says what url says already: give one of them`);
  }
  const tls = tlsOf(root, check);
  const { connectTimeoutMs, heartbeatSeconds, maxReconnectAttempts, reconnectDelayMs } = root;
  return {
    host: root.host ?? url?.host ?? 'localhost',
    port: root.port ?? url?.port ?? (tls === undefined ? 5672 : 5671),
    username: root.username ?? url?.username ?? 'guest',
    password: root.password ?? url?.password ?? 'guest',
    vhost: root.vhost ?? url?.vhost ?? '/',
    connectTimeoutMs,
    heartbeatSeconds,
    maxReconnectAttempts,
    reconnectDelayMs,
    tls,
  };
}

function tlsOf({ url, tls }: RootValues, check: Check): TlsConfig | undefined {
  const { enabled = url?.isTls ?? false, certFile, keyFile, caFile, serverName, skipVerify } = tls;
  if (!enabled && url?.isTls === true)
    check.problem(
      check.placeOf(tls, 'enabled'),
      'key "enabled" is false, but the url says amqps: change one of them',
    );
  for (const [one, other] of [
    ['certFile', 'keyFile'],
    ['keyFile', 'certFile'],
  ] as const) {
    if (tls[one] !== undefined && tls[other] === undefined)
      check.problem(check.placeOf(tls, one), 'a client certificate is cert_file and key_file: give both');
  }
  if (!enabled) {
    for (const property of ['certFile', 'caFile', 'serverName'] as const) {
      if (tls[property] !== undefined)
        check.warning(
          check.placeOf(tls, property),
          'this has no effect: TLS is off, for the url is not amqps:// and enabled is not true',
        );
    }
    return undefined;
  }
  if (skipVerify)
    check.warning(
      check.placeOf(tls, 'skipVerify'),
      "skip_verify is on: the broker's certificate is not checked, and whoever sits between can read the password and every message. Give ca_file in its place",
    );
  return { certFile, keyFile, caFile, serverName, skipVerify };
}
