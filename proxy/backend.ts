import { readFileSync } from 'node:fs';
import { isIP, type Socket } from 'node:net';
import type tls from 'node:tls';
import { messageOf, UsageError } from '../common/errors.ts';
import { loadTls } from '../common/tls.ts';
import type { ProxyOptions } from './options.ts';
import { type Endpoints, proxyHeader } from './proxy-protocol.ts';
import { connectPlain, type Receive } from './socket.ts';
import { receiveRecords } from './tls-reads.ts';

/** The RabbitMQ listener behind the proxy. */
export interface Backend {
  readonly host: string;
  readonly port: number;
  readonly tls: boolean;
  /** Begins to connect; ready at 'connect', with TLS at 'secureConnect'. */
  connect(receive: Receive): Socket;
  /** What goes before the client's first octet, or undefined: nothing. */
  header(endpoints: Endpoints): Uint8Array | undefined;
}

/** @throws UsageError when the authorities' file can't be read */
export function createBackend(options: ProxyOptions): Backend {
  const { host, port } = options.backend;
  const withHeader = options.backendProxyProtocol === 'v2';
  const header: Backend['header'] = (endpoints) => (withHeader ? proxyHeader(endpoints) : undefined);
  if (!options.backendTls) {
    return { host, port, tls: false, header, connect: (receive) => connectPlain({ host, port }, receive) };
  }
  const servername = options.backendTlsServerName ?? (isIP(host) === 0 ? host : undefined);
  const { connect: connectTls, createSecureContext } = loadTls();
  const secureContext = createSecureContext({
    minVersion: 'TLSv1.2',
    ...authorities(options.backendTlsCa),
  });
  const connect = (receive: Receive): Socket => {
    // allowHalfOpen is documented and missing in the types
    const to: tls.ConnectionOptions & { allowHalfOpen: boolean } = {
      host,
      port,
      secureContext,
      allowHalfOpen: true,
      ...(servername === undefined ? {} : { servername }),
    };
    const socket = connectTls(to);
    socket.setNoDelay(true);
    socket.setKeepAlive(true, 60_000);
    receiveRecords(socket, receive);
    return socket;
  };
  return { host, port, tls: true, header, connect };
}

function authorities(file: string | undefined): { ca?: Buffer } {
  if (file === undefined) return {};
  try {
    return { ca: readFileSync(file) };
  } catch (error) {
    throw new UsageError(`option --backend-tls-ca: ${file} cannot be read: ${messageOf(error)}`);
  }
}
