// What an API server asks a kubelet for pods/exec: POST /exec/NAMESPACE/POD/CONTAINER, upgraded to SPDY/3.1 with the
// streams of v4.channel.k8s.io. RabbitMQ's cluster-operator runs rabbitmqctl that way; nobody here writes to stdin.
import type { IncomingMessage } from 'node:http';
import { createServer } from 'node:https';
import type { Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { constants, deflateSync } from 'node:zlib';
import { makeCa, makeServingCertificate } from '../../../certs/certificates.ts';
import type { ExecResult } from './container.ts';
import { NODE_ADDRESS } from './types.ts';

const PROTOCOL = 'v4.channel.k8s.io';
/** Type of a control frame, with the version and the bit that makes it one. */
const CONTROL = { synStream: 0x8003_0001, synReply: 0x8003_0002, ping: 0x8003_0006 };
const FLAG_FIN = 1;
/** A block of no headers: compressed without the dictionary that it may be compressed with. */
const NO_HEADERS = deflateSync(Buffer.alloc(4), { finishFlush: constants.Z_SYNC_FLUSH });
/** The same block, further on in the one stream of the connection: a stored block of four octets, and an empty one. */
const NO_MORE_HEADERS = Buffer.from([0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);

/** Runs a command in a container of a pod; rejects when it does not run. */
export type Exec = (
  namespace: string,
  pod: string,
  container: string,
  command: string[],
) => Promise<ExecResult>;

/** Listens on the node's address, on any port. */
export async function startExecServer(exec: Exec): Promise<{ port: number; close: () => void }> {
  const ca = await makeCa({ commonName: 'quorumbridge test node', days: 2 });
  const { cert, key } = await makeServingCertificate({
    ca,
    dnsNames: ['node'],
    ips: [NODE_ADDRESS],
    days: 1,
  });
  const server: Server = createServer({ cert, key }, (_, response) => response.writeHead(404).end());
  server.on('upgrade', (request: IncomingMessage, socket: Duplex) => {
    socket.on('error', () => socket.destroy());
    serve(request, socket, exec).catch((error: unknown) => {
      socket.destroy(error as Error);
    });
  });
  await new Promise<void>((resolve) => {
    server.listen(0, NODE_ADDRESS, resolve);
  });
  return { port: (server.address() as AddressInfo).port, close: () => server.close() };
}

async function serve(request: IncomingMessage, socket: Duplex, exec: Exec): Promise<void> {
  const url = new URL(request.url ?? '', 'https://node');
  const [, what, namespace = '', pod = '', container = ''] = url.pathname.split('/').map(decodeURIComponent);
  if (what !== 'exec' || request.headers.upgrade?.toUpperCase() !== 'SPDY/3.1') {
    socket.end('HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n');
    return;
  }
  const upgrade = ['Upgrade: SPDY/3.1', 'Connection: Upgrade', `X-Stream-Protocol-Version: ${PROTOCOL}`];
  socket.write(`HTTP/1.1 101 Switching Protocols\r\n${upgrade.join('\r\n')}\r\n\r\n`);
  // The order in which client-go opens them, after the one that tells how the command ended.
  const wanted = ['input', 'output', 'error'].filter((name) => url.searchParams.get(name) === '1');
  const streams = await openedStreams(socket, ['end', ...wanted]);
  const result = await exec(namespace, pod, container, url.searchParams.getAll('command')).catch(
    (error: Error) => ({ code: 126, output: error.message }),
  );
  const output = streams.get('output');
  if (output !== undefined && result.output !== '') socket.write(data(output, Buffer.from(result.output)));
  socket.write(data(streams.get('end')!, Buffer.from(JSON.stringify(statusOf(result)))));
  for (const id of streams.values()) socket.write(data(id, Buffer.alloc(0), FLAG_FIN));
}

/** Answers what the other side opens until all streams are there; their ids by name. */
function openedStreams(socket: Duplex, names: string[]): Promise<Map<string, number>> {
  const streams = new Map<string, number>();
  let buffered = Buffer.alloc(0);
  return new Promise((resolve, reject) => {
    socket.once('close', () => reject(new Error('the connection ended')));
    socket.on('data', (chunk: Buffer) => {
      buffered = Buffer.concat([buffered, chunk]);
      while (buffered.length >= 8) {
        const size = 8 + buffered.readUIntBE(5, 3);
        if (buffered.length < size) break;
        const frame = buffered.subarray(0, size);
        buffered = buffered.subarray(size);
        const type = frame.readUInt32BE(0);
        if (type === CONTROL.ping) socket.write(frame);
        if (type !== CONTROL.synStream) continue;
        const id = frame.readUInt32BE(8);
        socket.write(control(CONTROL.synReply, id, streams.size === 0 ? NO_HEADERS : NO_MORE_HEADERS));
        streams.set(names[streams.size]!, id);
        if (streams.size === names.length) resolve(streams);
      }
    });
  });
}

function control(type: number, stream: number, rest: Buffer): Buffer {
  const head = Buffer.alloc(12);
  head.writeUInt32BE(type, 0);
  head.writeUIntBE(4 + rest.length, 5, 3);
  head.writeUInt32BE(stream, 8);
  return Buffer.concat([head, rest]);
}

function data(stream: number, content: Buffer, flags = 0): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32BE(stream, 0);
  head.writeUInt8(flags, 4);
  head.writeUIntBE(content.length, 5, 3);
  return Buffer.concat([head, content]);
}

function statusOf({ code, output }: ExecResult): Record<string, unknown> {
  if (code === 0) return { metadata: {}, status: 'Success' };
  return {
    metadata: {},
    status: 'Failure',
    message: `command terminated with non-zero exit code ${code}: ${output.trim()}`,
    reason: 'NonZeroExitCode',
    details: { causes: [{ reason: 'ExitCode', message: String(code) }] },
  };
}
