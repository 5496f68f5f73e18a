import { once } from 'node:events';
import net, { type AddressInfo, type Server, type Socket } from 'node:net';
import tls from 'node:tls';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { makeCa, makeServingCertificate } from '../../../../certs/certificates.ts';
import { resetSocket } from '../../../../proxy/faults/reset.ts';
import { connectPlain } from '../../../../proxy/socket.ts';

let certificate: { readonly cert: string; readonly key: string };
let ca: string;
const servers: Server[] = [];

beforeAll(async () => {
  const issuer = await makeCa({ commonName: 'test', days: 1 });
  ca = issuer.cert;
  certificate = await makeServingCertificate({ ca: issuer, dnsNames: ['localhost'], ips: [], days: 1 });
});
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

/** Connects a pair of sockets: who connected, and whom the server accepted. Each has said a word to the other. */
async function pair(encrypted: boolean, below: boolean): Promise<{ client: Socket; accepted: Socket }> {
  const secure = tls.createServer({ ...certificate, allowHalfOpen: true } as tls.TlsOptions);
  const plain = net.createServer({ allowHalfOpen: true });
  // The proxy's listeners hand accepted sockets to a TLS server of their own.
  if (below)
    plain.on('connection', (socket) =>
      secure.emit(
        'connection',
        socket.on('error', () => {}),
      ),
    );
  const server = encrypted && !below ? secure : plain;
  const accepting = once(encrypted ? secure : server, encrypted ? 'secureConnection' : 'connection');
  servers.push(server.listen(0, '127.0.0.1'));
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const to = { host: '127.0.0.1', port };
  const client = encrypted
    ? tls.connect({ ...to, ca, servername: 'localhost' }).on('data', () => {})
    : connectPlain(to, () => {});
  client.on('error', () => {});
  const [accepted] = (await accepting) as [Socket];
  accepted.on('error', () => {});
  const heard = once(accepted, 'data');
  client.write('hello');
  await heard;
  return { client, accepted };
}

describe('a socket that is reset', () => {
  it.each([
    ['plain', false, false],
    ['with TLS', true, false],
    ['with TLS over a socket that was accepted before', true, true],
  ])('is heard of as ECONNRESET at the other end, and closes: %s', async (_, encrypted, below) => {
    for (const side of ['client', 'accepted'] as const) {
      const sockets = await pair(encrypted, below);
      const other = sockets[side === 'client' ? 'accepted' : 'client'];
      const closed = once(sockets[side], 'close');
      const failed = once(other, 'error').then(([error]) => (error as NodeJS.ErrnoException).code);
      // What is on its way is lost.
      sockets[side].write('never mind');
      resetSocket(sockets[side]);
      await closed;
      other.resume();
      expect([side, await failed]).toEqual([side, 'ECONNRESET']);
      other.destroy();
    }
  });

  it.each([
    ['plain', false],
    ['with TLS', true],
  ])('may have been ended before, and closes: %s', async (_, encrypted) => {
    const { client, accepted } = await pair(encrypted, false);
    client.end('good bye');
    const closed = once(client, 'close');
    resetSocket(client);
    await closed;
    accepted.destroy();
  });

  it('may be closed already', async () => {
    const { client, accepted } = await pair(true, false);
    client.destroy();
    await once(client, 'close');
    expect(() => resetSocket(client)).not.toThrow();
    accepted.destroy();
  });
});
