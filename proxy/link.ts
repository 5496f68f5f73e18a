import type { Socket } from 'node:net';
import type { MessageRun } from '../amqp/message-run.ts';
import type { Backend } from './backend.ts';
import type { ProxyErrorCode } from './errors.ts';
import { resetSocket } from './faults/reset.ts';
import type { Gate } from './gate.ts';
import { Outlet, type Source } from './outlet.ts';
import type { Endpoints } from './proxy-protocol.ts';
import { endOnce, type Receive } from './socket.ts';

/** The way of one client's octets to the broker, and back. What is read from it can be paused as a socket can. */
export interface Link extends Source {
  /** It isn't there yet. */
  readonly connecting: boolean;
  /** Its end in the broker's direction is closed for good. */
  readonly destroyed: boolean;
  /** No more octets come from it. */
  readonly readableEnded: boolean;
  /** The proxy's own end of the connection to the broker, `ADDRESS PORT`; undefined in pool mode, where channels may move. */
  readonly localEnd?: string | undefined;
  /** Octets that wait for the connection to take them; in pool mode the pool knows. */
  readonly writableLength?: number;
  /** Octets that came from it and are held back from the client. */
  readonly readableLength?: number;
  /** Octets of messages that the client hasn't sent whole; undefined where they go on in pieces. */
  readonly held?: number | undefined;
  /** Passes the pieces on, in order. `lent`: they lie in a buffer that the client's socket reads into again. */
  write(pieces: readonly Uint8Array[], lent: boolean): void;
  /**
   * Takes whole publishes of one channel, as many as lie one behind the other from `start` on, where a frame begins and all
   * that came before was written; where a link looks at them anyway. Between {@link cork} and {@link uncork} only.
   * @param maxPayload octets of a frame's payload  @param lent as write's
   * @returns those that it has taken; undefined: none, and they are to be written
   */
  take?(
    octets: Uint8Array,
    start: number,
    end: number,
    maxPayload: number,
    lent: boolean,
  ): MessageRun | undefined;
  /** What is written until {@link uncork} lies in one chunk of the client's, and goes on together. */
  cork?(): void;
  uncork?(): void;
  /** Pauses the client until {@link proceed}. */
  hold(): void;
  proceed(): void;
  /** Lets the client flow: its octets are no longer passed on. */
  release(): void;
  /** Ends the client's direction, behind these octets. */
  end(octets?: Uint8Array): void;
  destroy(): void;
  /** Breaks the connection to the broker off, where it is the client's alone: by a reset, and without a word. */
  reset?(): void;
  /** Looks at deadlines; called a few times a second. @param now milliseconds of performance.now() */
  sweep(now: number): void;
}

export interface LinkEvents {
  /** Does something that others set off: a fault of it costs this client its connection, and nobody else. */
  guard(work: () => void): void;
  /** Octets for the broker are taken. */
  connected(): void;
  /** Octets for the client. */
  receive: Receive;
  /** It broke; {@link closed} follows. */
  failed(error: NodeJS.ErrnoException): void;
  /** The connection has to be ended, for a reason that the client is told by connection.close. */
  refused(code: ProxyErrorCode, replyCode: number, text: string, method?: number): void;
  /** The connection has to be ended, and the client isn't told why. */
  rejected(code: ProxyErrorCode, text: string): void;
  /** No more octets come. */
  ended(): void;
  /** It is gone in both directions. */
  closed(): void;
}

/** One client, for whom a link is made. */
export interface LinkClient {
  readonly id: number;
  /** Octets that the client hasn't taken yet. */
  backlog(): number;
  /** What holds its socket back: others do so too. */
  readonly gate: Gate;
  readonly endpoints: Endpoints;
  /** What the client's certificate is known by (SHA-256); '' without one, and where the proxy has logged the client in. */
  readonly tlsIdentity: () => string;
  readonly events: LinkEvents;
  /** The channel that the client leaves to the proxy's own questions, once it is known that there is one. */
  readonly lookupChannel: () => number | undefined;
}

/** Makes the link of a client. It connects by itself. */
export type Connect = (client: LinkClient) => Link;

/** A connection to the backend for each client. */
export function connectDirectly(backend: Backend): Connect {
  return (client) => new DirectLink(backend, client);
}

class DirectLink implements Link {
  readonly #socket: Socket;
  readonly #outlet: Outlet;

  constructor(backend: Backend, { gate, endpoints, events }: LinkClient) {
    const socket = backend.connect((chunk, length, lent) => events.receive(chunk, length, lent));
    this.#socket = socket;
    this.#outlet = new Outlet(gate.holder(), socket, backend.tls);
    socket.once(backend.tls ? 'secureConnect' : 'connect', () => {
      const announced = backend.header(endpoints);
      if (announced !== undefined) socket.write(announced);
      events.connected();
    });
    socket.on('error', (error) => events.failed(error));
    socket.on('end', () => events.ended());
    socket.on('close', () => {
      events.ended();
      events.closed();
    });
  }

  get connecting(): boolean {
    return this.#socket.connecting;
  }

  get destroyed(): boolean {
    return this.#socket.destroyed;
  }

  get readableEnded(): boolean {
    return this.#socket.readableEnded;
  }

  get localEnd(): string {
    return `${this.#socket.localAddress} ${this.#socket.localPort}`;
  }

  get writableLength(): number {
    return this.#socket.writableLength;
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  write(pieces: readonly Uint8Array[], lent: boolean): void {
    this.#outlet.write(pieces, lent);
  }

  hold(): void {
    this.#outlet.hold();
  }

  proceed(): void {
    this.#outlet.proceed();
  }

  release(): void {
    this.#outlet.release();
  }

  end(octets?: Uint8Array): void {
    endOnce(this.#socket, octets);
  }

  destroy(): void {
    this.#socket.destroy();
  }

  reset(): void {
    resetSocket(this.#socket);
  }

  sweep(): void {
    // The broker sees to its own heartbeats.
  }
}
