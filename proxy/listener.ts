import { once } from 'node:events';
import net, { type AddressInfo, type Socket } from 'node:net';
import type tls from 'node:tls';
import { messageOf, UsageError } from '../common/errors.ts';
import { formatHostPort, type HostPort } from '../common/options.ts';
import { loadTls, type TlsFiles } from '../common/tls.ts';
import { announcePlain, announceTls } from './announced.ts';
import type { SessionLimits } from './context.ts';
import type { Endpoints } from './proxy-protocol.ts';
import { adoptPlain, type Receive } from './socket.ts';
import { receiveRecords } from './tls-reads.ts';

/** A connection that a client made, before anything of it was read. */
export interface Accepted {
  readonly socket: Socket;
  readonly tls: boolean;
  /** Whose it is by its PROXY header; undefined: its own. */
  readonly announced: Endpoints | undefined;
  /** Begins to read: octets go to `receive` from here on. Answers the socket to use from now on. */
  readonly read: (receive: Receive) => Socket;
}

export interface ListenerEvents {
  /** Asked for each connection before anything else; false: it was turned away. */
  admit(socket: Socket): boolean;
  /** Whether a PROXY header has to come first. */
  isTrusted(socket: Socket): boolean;
  accepted(connection: Accepted): void;
  /** A TLS handshake failed, or a certificate or a PROXY header was refused. */
  refused(
    socket: Socket,
    why: 'CLIENT_TLS' | 'CLIENT_CERTIFICATE' | 'CLIENT_PROXY_HEADER',
    text: string,
  ): void;
  /** A plain connection that was admitted has ended before it was accepted. */
  dropped(): void;
  /** A connection could not be accepted, for want of file descriptors for example. Listening goes on. */
  failed(error: Error): void;
}

export interface TlsListener {
  readonly files: TlsFiles;
  /** Whether clients must show a certificate where authorities to verify it are given. */
  readonly clientAuth: 'require' | 'request';
  /** Milliseconds. */
  readonly handshakeTimeout: number;
}

export interface Listener {
  readonly address: HostPort;
  readonly scheme: 'amqp' | 'amqps';
  /**
   * Serves new connections with another certificate, its authorities and what clients have to show; connections go on with
   * theirs. Throws, and keeps the old one, when OpenSSL refuses it. Nothing to a plain listener.
   */
  serveWith(secure: TlsListener): void;
  /** Stops accepting; connections go on. */
  close(): void;
}

/**
 * Listens for clients, plain or, with `secure`, by TLS 1.2 and 1.3.
 * @param times may change; a PROXY header has to come within `handshakeTimeout`, in milliseconds
 * @throws UsageError when the address can't be listened on
 */
export async function listen(
  at: HostPort,
  secure: TlsListener | undefined,
  events: ListenerEvents,
  times: Pick<SessionLimits, 'handshakeTimeout'>,
): Promise<Listener> {
  const announced = new AnnouncedClients();
  let served = secure;
  let tlsServer = secure === undefined ? undefined : createTlsServer(secure, events, announced);
  const server = net.createServer({
    pauseOnConnect: secure === undefined,
    allowHalfOpen: true,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: 60_000,
  });
  server.on('connection', (socket) => {
    if (!events.admit(socket)) return;
    if (events.isTrusted(socket)) {
      const { handshakeTimeout } = times;
      if (tlsServer === undefined) acceptAnnounced(socket, handshakeTimeout, events);
      else secureAnnounced(socket, tlsServer, announced, handshakeTimeout, events);
    } else if (tlsServer === undefined) {
      const read = (receive: Receive): Socket => adoptPlain(socket, receive);
      events.accepted({ socket, tls: false, announced: undefined, read });
    } else {
      beginTls(socket, tlsServer);
    }
  });
  server.listen({ host: at.host, port: at.port });
  try {
    await once(server, 'listening');
  } catch (error) {
    throw new UsageError(`option --listen: cannot listen on ${formatHostPort(at)}: ${messageOf(error)}`);
  }
  server.on('error', (error) => events.failed(error));
  const { address, port } = server.address() as AddressInfo;
  return {
    address: { host: address, port },
    scheme: secure === undefined ? 'amqp' : 'amqps',
    serveWith: (next) => {
      if (served === undefined) return;
      if (asksTheSame(served, next)) tlsServer?.setSecureContext(contextOptions(next.files));
      // Handshakes under way belong to the one that began them; it never listened itself.
      else tlsServer = createTlsServer(next, events, announced);
      served = next;
    },
    close: () => server.close(),
  };
}

/** Whether clients have to do the same for both: only then can a server take the other's certificate. */
function asksTheSame(one: TlsListener, other: TlsListener): boolean {
  return (
    one.clientAuth === other.clientAuth &&
    one.handshakeTimeout === other.handshakeTimeout &&
    (one.files.ca === undefined) === (other.files.ca === undefined)
  );
}

function contextOptions({ cert, key, ca }: TlsFiles): tls.SecureContextOptions {
  return { cert, key, ...(ca === undefined ? {} : { ca }), minVersion: 'TLSv1.2' };
}

/** A plain connection with a PROXY header. */
function acceptAnnounced(accepted: Socket, timeout: number, events: ListenerEvents): void {
  let isOurs = true;
  const { socket, read } = announcePlain(accepted, timeout, {
    announced: (announced) => {
      isOurs = false;
      events.accepted({ socket, tls: false, announced, read });
    },
    refused: (text) => {
      events.refused(socket, 'CLIENT_PROXY_HEADER', text);
      socket.destroy();
    },
  });
  socket.once('close', () => {
    if (isOurs) events.dropped();
  });
}

/** A connection with a PROXY header in front of its TLS. */
function secureAnnounced(
  socket: Socket,
  server: tls.Server,
  clients: AnnouncedClients,
  timeout: number,
  events: ListenerEvents,
): void {
  announceTls(socket, timeout, {
    announced: (endpoints) => {
      if (endpoints !== undefined) clients.add(socket, endpoints);
      beginTls(socket, server);
    },
    refused: (text) => {
      events.refused(socket, 'CLIENT_PROXY_HEADER', text);
      socket.destroy();
    },
  });
}

/** A client that ends its side within its handshake has gone: a health check that only connects, most often. */
function beginTls(socket: Socket, server: tls.Server): void {
  socket.allowHalfOpen = false;
  server.emit('connection', socket);
}

/** Who the clients behind load balancers are, by the connection: what comes out of a TLS handshake is another socket. */
class AnnouncedClients {
  readonly #endpoints = new Map<string, Endpoints>();

  add(socket: Socket, endpoints: Endpoints): void {
    const key = keyOf(socket);
    this.#endpoints.set(key, endpoints);
    socket.once('close', () => this.#endpoints.delete(key));
  }

  of(socket: Socket): Endpoints | undefined {
    return this.#endpoints.get(keyOf(socket));
  }
}

/** What no two connections to a listener have at the same time. */
function keyOf({ remoteAddress, remotePort, localAddress }: Socket): string {
  return `${remoteAddress} ${remotePort} ${localAddress}`;
}

function createTlsServer(
  secure: TlsListener,
  events: ListenerEvents,
  announced: AnnouncedClients,
): tls.Server {
  const { files, clientAuth, handshakeTimeout } = secure;
  const server = loadTls().createServer({
    ...contextOptions(files),
    handshakeTimeout,
    requestCert: files.ca !== undefined,
    // Whoever shows no certificate is let in by `request`, so the verdict on those shown is taken below.
    rejectUnauthorized: files.ca !== undefined && clientAuth === 'require',
  });
  server.on('tlsClientError', (error: NodeJS.ErrnoException, socket) => {
    events.refused(socket, 'CLIENT_TLS', `TLS handshake failed: ${error.code ?? error.message}`);
    socket.destroy();
  });
  server.on('secureConnection', (socket: tls.TLSSocket) => {
    socket.allowHalfOpen = true; // as a plain one: what is under way to the client still goes out
    const refusal = files.ca === undefined ? undefined : certificateRefusal(socket);
    if (refusal !== undefined) {
      events.refused(socket, 'CLIENT_CERTIFICATE', refusal);
      socket.destroy();
      return;
    }
    // TLS 1.2 lets clients ask for one handshake after the other, at the cost of the server. Node emits an error, and leaves
    // the socket open.
    socket.disableRenegotiation();
    socket.once('error', ({ code }: NodeJS.ErrnoException) => {
      if (code === 'ERR_TLS_RENEGOTIATION_DISABLED')
        events.refused(socket, 'CLIENT_TLS', 'the client asked for another TLS handshake (renegotiation)');
      socket.destroy();
    });
    const read = (receive: Receive): Socket => {
      receiveRecords(socket, receive);
      return socket;
    };
    events.accepted({ socket, tls: true, announced: announced.of(socket), read });
  });
  return server;
}

/** Why the certificate that the client showed isn't good enough, or undefined: it is, or none was shown. */
function certificateRefusal(socket: tls.TLSSocket): string | undefined {
  if (socket.authorized || socket.getPeerX509Certificate() === undefined) return undefined;
  return `the client's certificate was refused: ${messageOf(socket.authorizationError)}`;
}
