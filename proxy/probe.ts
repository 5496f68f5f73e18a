import { METHOD, PROTOCOL_HEADER } from '../amqp/constants.ts';
import { FrameScanner, SCAN } from '../amqp/scan.ts';
import type { Backend } from './backend.ts';
import { endpointsOf } from './proxy-protocol.ts';

/** How long an answer holds, in milliseconds, so that a flood of probes is no flood at the broker. */
const HOLDS = 1000;

/**
 * How long a handshake that was seen stands for those not tried, in milliseconds. RabbitMQ logs a warning for each
 * handshake that isn't finished and nothing for a connection without one, so that probes mostly just connect.
 */
const PROVEN = 30_000;

/** Whether the backend answers. */
export interface Probe {
  /** Undefined when it does, else why it doesn't. */
  check(): Promise<string | undefined>;
  /** A client's handshake came through: nothing better can be tried. */
  proven(): void;
}

/**
 * A check that the backend can be connected to and, unless that was seen within the last half minute, that it answers the
 * protocol header with connection.start (AMQP 0-9-1 section 2.2.4).
 * @param timeout milliseconds for the whole of it
 */
export function createProbe(backend: Backend, timeout: number): Probe {
  let last: { at: number; answer: Promise<string | undefined> } | undefined;
  let provenAt = -Infinity;
  const ask = async (): Promise<string | undefined> => {
    const handshake = performance.now() - provenAt > PROVEN;
    const problem = await probe(backend, timeout, handshake);
    if (problem !== undefined) provenAt = -Infinity;
    else if (handshake) provenAt = performance.now();
    return problem;
  };
  return {
    check: () => {
      const now = performance.now();
      if (last === undefined || now - last.at > HOLDS) last = { at: now, answer: ask() };
      return last.answer;
    },
    proven: () => {
      provenAt = performance.now();
    },
  };
}

function probe(backend: Backend, timeout: number, handshake: boolean): Promise<string | undefined> {
  const where = `backend ${backend.host}:${backend.port}`;
  const scanner = new FrameScanner(131_072);
  return new Promise((resolve) => {
    const finish = (problem?: string): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(problem);
    };
    const timer = setTimeout(() => finish(`${where} did not answer within ${timeout / 1000} s`), timeout);
    const socket = backend.connect((chunk, length) => {
      scanner.start(0);
      const event = scanner.next(chunk, length);
      if (event === SCAN.more) return;
      const started = event === SCAN.header && scanner.method === METHOD.connectionStart;
      finish(
        started
          ? undefined
          : `${where} does not answer with connection.start: is it RabbitMQ's AMQP listener?`,
      );
    });
    socket.once(backend.tls ? 'secureConnect' : 'connect', () => {
      if (!handshake) return finish();
      const own = endpointsOf(socket);
      if (own === undefined) return finish(`${where} ended the connection at once`);
      const { sourceAddress, sourcePort, destinationAddress, destinationPort } = own;
      const header = backend.header({
        sourceAddress: destinationAddress,
        sourcePort: destinationPort,
        destinationAddress: sourceAddress,
        destinationPort: sourcePort,
      });
      if (header !== undefined) socket.write(header);
      socket.write(PROTOCOL_HEADER);
    });
    socket.on('error', (error: NodeJS.ErrnoException) =>
      finish(`${where} cannot be reached: ${error.code ?? error.message}`),
    );
    socket.on('close', () => finish(`${where} ended the connection without an answer`));
  });
}
