import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { isIP, type Socket } from 'node:net';
import { type Channel, type ChannelModel, type Options, type SocketOptions, connect } from 'amqplib';
import { UsageError, messageOf } from '../common/errors.ts';
import { formatHostPort } from '../common/options.ts';
import { type Version, compareVersions, parseVersion } from '../common/version.ts';
import type { ConnectionConfig, TlsConfig } from './config/types.ts';
import { BrokerFailure } from './errors.ts';
import { gatherWrites } from './gather.ts';

/** The oldest RabbitMQ whose quorum queues know times to live and keep dead letters until they have arrived. */
const OLDEST: Version = { major: 3, minor: 10, patch: undefined };

/** When to connect again after a connection was lost or refused. */
export interface ReconnectPolicy {
  readonly firstDelayMs: number;
  readonly longestDelayMs: number;
  /** In a row; undefined: without end. */
  readonly attempts: number | undefined;
}

const LONGEST_DELAY_MS = 30_000;

/** The policy of a configuration. */
export function reconnectPolicy({
  reconnectDelayMs,
  maxReconnectAttempts,
}: ConnectionConfig): ReconnectPolicy {
  return {
    firstDelayMs: reconnectDelayMs,
    longestDelayMs: Math.max(LONGEST_DELAY_MS, reconnectDelayMs),
    attempts: maxReconnectAttempts === 0 ? undefined : maxReconnectAttempts,
  };
}

/**
 * How long to wait before an attempt, in milliseconds; undefined where there is to be none. The wait doubles from the first on,
 * and a random half of it is left out, so that clients that lost a broker together don't come back together.
 * @param attempt in a row, from 1
 * @param random from 0 to 1, as Math.random gives it
 */
export function delayBefore(attempt: number, policy: ReconnectPolicy, random: number): number | undefined {
  const { firstDelayMs, longestDelayMs, attempts } = policy;
  if (attempts !== undefined && attempt > attempts) return undefined;
  const delay = Math.min(longestDelayMs, firstDelayMs * 2 ** Math.min(attempt - 1, 32));
  return Math.round(delay * (1 - random / 2));
}

/** The broker for people, without credentials: `127.0.0.1:5672, virtual host /`. */
export function describeBroker({ host, port, vhost }: ConnectionConfig): string {
  return `RabbitMQ at ${formatHostPort({ host, port })}, virtual host ${vhost}`;
}

/**
 * Connects and logs in. Whoever gets the connection listens to its `error` and `close`.
 * @param name for people that look at the broker's connections
 * @throws UsageError for a TLS file that can't be read
 * @throws BrokerFailure where there is no connection within the configured time
 */
export async function openConnection(config: ConnectionConfig, name: string): Promise<ChannelModel> {
  const { options, socket } = connectOptions(config, name);
  try {
    const model = await connect(options, socket);
    gatherWrites(streamOf(model));
    return model;
  } catch (error) {
    throw new BrokerFailure(`${describeBroker(config)}: ${reasonOf(error, config)}`);
  }
}

/** How long the broker has to agree to an end, in milliseconds. */
const CLOSE_MS = 5000;

/** amqplib has no way to end a connection whose broker says nothing. */
function streamOf({ connection }: ChannelModel): Socket {
  return (connection as unknown as { stream: Socket }).stream;
}

/** How many channels a connection may have, as both sides have agreed. */
export function channelsOf({ connection }: ChannelModel): number {
  return (connection as unknown as { channelMax: number }).channelMax;
}

/** Ends a connection at once, without a word to the broker. */
export function destroyConnection(model: ChannelModel, why: string): void {
  streamOf(model).destroy(new Error(why));
}

/**
 * Closes a channel. Resolves when the broker has taken all that was written to it, or is gone: amqplib lets the end of a
 * connection overtake what its channels have not sent yet.
 */
export async function closeChannel(channel: Channel): Promise<void> {
  // It says no when it is closed already.
  await Promise.race([channel.close(), once(channel, 'close')]).catch(() => {});
}

/**
 * Closes a connection in good order, or else at once: a broker in trouble answers nothing, and amqplib never says that a
 * connection has ended while it was being closed. It is no problem when it is closed already.
 */
export async function closeConnection(model: ChannelModel): Promise<void> {
  const stream = streamOf(model);
  if (stream.closed) return;
  const timer = setTimeout(
    () => destroyConnection(model, 'the broker has not answered connection.close'),
    CLOSE_MS,
  );
  try {
    await Promise.race([model.close(), once(stream, 'close')]);
  } catch {
    // IllegalOperationError: it was closed meanwhile
  } finally {
    clearTimeout(timer);
  }
}

/** What amqplib is told. */
export function connectOptions(
  config: ConnectionConfig,
  name: string,
): { options: Options.Connect; socket: SocketOptions } {
  const { tls } = config;
  const options: Options.Connect = {
    protocol: tls === undefined ? 'amqp' : 'amqps',
    hostname: config.host,
    port: config.port,
    username: config.username,
    password: config.password,
    // amqplib decodes it.
    vhost: encodeURIComponent(config.vhost),
    heartbeat: config.heartbeatSeconds,
  };
  const socket: SocketOptions = {
    timeout: config.connectTimeoutMs,
    noDelay: true,
    keepAlive: true,
    clientProperties: { connection_name: name },
    ...(tls === undefined ? {} : tlsOptions(tls, config.host)),
  };
  return { options, socket };
}

export interface TlsOptions {
  readonly rejectUnauthorized: boolean;
  readonly servername?: string;
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
}

/** What Node's TLS is told, with the files as they are now. @throws UsageError for one that can't be read */
export function tlsOptions(tls: TlsConfig, host: string): TlsOptions {
  const { certFile, keyFile, caFile, skipVerify } = tls;
  const serverName = tls.serverName ?? (isIP(host) === 0 ? host : undefined);
  return {
    rejectUnauthorized: !skipVerify,
    ...(serverName === undefined ? {} : { servername: serverName }),
    ...(caFile === undefined ? {} : { ca: pem('ca_file', caFile) }),
    ...(certFile === undefined ? {} : { cert: pem('cert_file', certFile) }),
    ...(keyFile === undefined ? {} : { key: pem('key_file', keyFile) }),
  };
}

function pem(key: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new UsageError(`key "${key}" of tls: ${path} cannot be read: ${messageOf(error)}`);
  }
}

function reasonOf(error: unknown, { username, connectTimeoutMs, tls }: ConnectionConfig): string {
  const message = messageOf(error);
  const code = (error as NodeJS.ErrnoException).code ?? '';
  if (/ETIMEDOUT/.test(message)) return `no connection within ${connectTimeoutMs / 1000} s`;
  if (code === 'ECONNREFUSED') return 'connection refused: check host and port, and that it runs';
  if (/ACCESS[-_]REFUSED/.test(message))
    return `the login of user ${username} is refused: check username and password, and that guest is let in from here`;
  if (/NOT[-_]ALLOWED/.test(message))
    return `user ${username} may not use this virtual host, or there is none of that name`;
  if (tls !== undefined && /^(?:ERR_TLS|ERR_SSL|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_)/.test(code))
    return `the TLS handshake failed (${code}): ca_file has to hold the authority of its certificate, and server_name its name`;
  return message;
}

/**
 * The broker's version, from what it says at the handshake.
 * @throws BrokerFailure for a broker that this kit has no declarations for
 */
export function versionOf({ connection }: ChannelModel): Version {
  const { version: said } = connection.serverProperties;
  const version = parseVersion(/^\d+\.\d+\.\d+/.exec(said)?.[0]);
  if (version === undefined)
    throw new BrokerFailure(`the broker says that its version is ${said}: that is no RabbitMQ`);
  if (compareVersions(version, OLDEST) < 0)
    throw new BrokerFailure(`the broker is RabbitMQ ${said}: RabbitMQ 3.10 or newer is needed`);
  return version;
}
