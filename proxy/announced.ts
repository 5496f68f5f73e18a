import type { Socket } from 'node:net';
import type { Endpoints } from './proxy-protocol.ts';
import { ProxyHeaderError, ProxyHeaderReader } from './proxy-header.ts';
import { adoptPlain, type Receive } from './socket.ts';

/** What becomes of a load balancer's connection: one of the two, once. Nothing when it ends before. */
export interface AnnouncementEvents {
  /**
   * The header has come.
   * @param endpoints whose the connection is; undefined: the load balancer's own
   */
  announced(endpoints: Endpoints | undefined): void;
  /** What came is no header, or none came in time: the socket is to be closed. */
  refused(text: string): void;
}

/** One that is waited for. */
class Announcement {
  readonly #reader = new ProxyHeaderReader();
  readonly #events: AnnouncementEvents;
  readonly #timer: NodeJS.Timeout;
  #isOver = false;

  constructor(socket: Socket, timeout: number, events: AnnouncementEvents) {
    this.#events = events;
    this.#timer = setTimeout(() => this.#refuse(`no PROXY header within ${timeout / 1000} s`), timeout);
    socket.once('close', () => this.#end());
  }

  /** @returns how many octets the header took of the chunk that it ends in */
  push(chunk: Uint8Array, length: number): number | undefined {
    if (this.#isOver) return undefined;
    try {
      return this.#reader.push(chunk, length);
    } catch (error) {
      if (!(error instanceof ProxyHeaderError)) throw error;
      this.#refuse(error.message);
      return undefined;
    }
  }

  announce(): void {
    this.#end();
    this.#events.announced(this.#reader.header!.endpoints);
  }

  #refuse(text: string): void {
    this.#end();
    this.#events.refused(text);
  }

  #end(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
  }
}

/** A plain connection whose header is read, and what comes behind it. */
export interface AnnouncedPlain {
  readonly socket: Socket;
  /** To be called while {@link AnnouncementEvents.announced} is: what comes behind the header goes to `receive`. */
  readonly read: (receive: Receive) => Socket;
}

/**
 * Takes over a plain connection as {@link adoptPlain} does, and reads its PROXY header.
 * @param timeout milliseconds
 */
export function announcePlain(accepted: Socket, timeout: number, events: AnnouncementEvents): AnnouncedPlain {
  let take: Receive = (chunk, length, lent) => {
    const taken = announcement.push(chunk, length);
    if (taken === undefined) return;
    take = () => {};
    announcement.announce();
    if (taken < length) take(chunk.subarray(taken, length), length - taken, lent);
  };
  const socket = adoptPlain(accepted, (chunk, length, lent) => take(chunk, length, lent));
  socket.on('error', () => socket.destroy()).on('end', () => socket.end());
  const announcement = new Announcement(socket, timeout, events);
  const read = (receive: Receive): Socket => {
    take = receive;
    socket.removeAllListeners('end');
    return socket;
  };
  return { socket, read };
}

/**
 * Reads the PROXY header of a connection that speaks TLS behind it, which is left in the socket.
 * @param timeout milliseconds
 */
export function announceTls(socket: Socket, timeout: number, events: AnnouncementEvents): void {
  const announcement = new Announcement(socket, timeout, events);
  const read = (): void => {
    for (let chunk = socket.read() as Buffer | null; chunk !== null; chunk = socket.read() as Buffer | null) {
      const taken = announcement.push(chunk, chunk.length);
      if (taken === undefined) continue;
      socket.off('readable', read).off('error', ignore).off('end', ended);
      if (taken < chunk.length) socket.unshift(chunk.subarray(taken));
      announcement.announce();
      return;
    }
  };
  const ignore = (): void => {
    socket.destroy();
  };
  const ended = (): void => {
    socket.end();
  };
  socket.on('readable', read).on('error', ignore).on('end', ended);
}
