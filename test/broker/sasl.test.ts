// Logins are between client and broker: what the broker offers, what clients answer, and how they are refused.
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { connect, credentials } from 'amqplib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { makeCa, makeClientCertificate, makeServingCertificate } from '../../certs/certificates.ts';
import { encodeTable, entry, shortstr } from '../support/amqp-frames.ts';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { connectPeer, HEADER, method, Peer, readCloseFrame, startTestProxy } from '../support/peers.ts';
import type { TestProxy } from '../support/peers.ts';

const PASSWORD = 'schlüssel-7f3a';
/** RabbitMQ lets those wait that it doesn't tell why. */
const SILENCE_MS = 10_000;

/** connection.start-ok; `told`: the client wants to hear connection.close when its login is refused. */
function startOk(mechanism: string, response: Buffer, told: boolean): Buffer {
  const capability = entry('authentication_failure_close', { tag: 't', value: told ? 1 : 0 });
  const properties = encodeTable([entry('capabilities', { tag: 'F', value: [capability] })]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(response.length);
  return method(
    0,
    10,
    11,
    Buffer.concat([properties, shortstr(mechanism), length, response, shortstr('en_US')]),
  );
}

/** The text of a table without its length, as AMQPLAIN wants it. */
function amqplain(login: string, password: string): Buffer {
  const text = (value: string) => ({ tag: 'S' as const, value: Buffer.from(value) });
  return encodeTable([entry('LOGIN', text(login)), entry('PASSWORD', text(password))]).subarray(4);
}

/** What a login heard: the broker's first frame, and its answer, which is empty where it went without a word. */
interface Heard {
  start: Buffer;
  answer: Buffer;
}

async function login(peer: Peer, mechanism: string, response: Buffer, told: boolean): Promise<Heard> {
  peer.write(HEADER);
  const start = await peer.frame();
  peer.write(startOk(mechanism, response, told));
  const isDone = ({ received, ended, closed }: Peer) => received.length > 0 || ended || closed;
  await peer.until('an answer', isDone, SILENCE_MS);
  const answer = peer.received.length === 0 ? Buffer.alloc(0) : await peer.frame();
  peer.socket.destroy();
  return { start, answer };
}

/** The answer in words. */
function told({ answer }: Heard): string {
  if (answer.length === 0) return 'closed without a word';
  if (answer.readUInt32BE(7) === 0x000a_001e) return 'let in';
  const { code, text } = readCloseFrame(answer);
  return `${code} ${text}`;
}

function refused(mechanism: string): string {
  return (
    `403 ACCESS_REFUSED - Login was refused using authentication mechanism ${mechanism}. ` +
    'For details see the broker logfile.'
  );
}

await describeBrokers(['3.10', '4.0', '4.3'], (version) => {
  let folder: string;
  let broker: Broker;
  /** To the broker's plain listener. */
  let plain: TestProxy;
  /** From TLS to TLS. */
  let encrypted: TestProxy;
  let trust: { host: string; ca: string; servername: string };
  let certificate: tls.ConnectionOptions;

  beforeAll(async () => {
    const ca = await makeCa({ commonName: 'ca', days: 1 });
    const server = await makeServingCertificate({ ca, dnsNames: ['localhost'], ips: ['127.0.0.1'], days: 1 });
    const client = await makeClientCertificate({ ca, commonName: 'nova', days: 1 });
    trust = { host: '127.0.0.1', ca: ca.cert, servername: 'localhost' };
    certificate = { ...trust, cert: client.cert, key: client.key };
    const files = { 'ca.crt': ca.cert, 'tls.crt': server.cert, 'tls.key': server.key };
    folder = await mkdtemp(join(tmpdir(), 'quorumbridge-sasl-'));
    for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);
    broker = await startBroker(version, {
      plugins: ['rabbitmq_auth_mechanism_ssl'],
      files,
      conf: `
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = AMQPLAIN
auth_mechanisms.3 = EXTERNAL
listeners.ssl.1 = 127.0.0.1:@AMQPS@
ssl_options.cacertfile = @FILES@/ca.crt
ssl_options.certfile = @FILES@/tls.crt
ssl_options.keyfile = @FILES@/tls.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
ssl_cert_login_from = common_name`,
    });
    await broker.ctl('add_user', 'nova', PASSWORD);
    await broker.ctl('set_permissions', 'nova', '.*', '.*', '.*');
    plain = await startTestProxy({ backend: `127.0.0.1:${broker.port}` });
    encrypted = await startTestProxy({
      listen: ['amqps://127.0.0.1:0'],
      tlsCert: join(folder, 'tls.crt'),
      tlsKey: join(folder, 'tls.key'),
      tlsCa: join(folder, 'ca.crt'),
      tlsClientAuth: 'request',
      backend: `127.0.0.1:${broker.amqpsPort}`,
      backendTls: true,
      backendTlsCa: join(folder, 'ca.crt'),
      backendTlsServerName: 'localhost',
    });
  });
  afterAll(async () => {
    await plain?.[Symbol.asyncDispose]();
    await encrypted?.[Symbol.asyncDispose]();
    await broker?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  async function overTls(port: number, options: tls.ConnectionOptions): Promise<Peer> {
    const socket = tls.connect({ ...options, port });
    await once(socket, 'secureConnect');
    return new Peer(socket);
  }

  it.each(['plain', 'TLS'])('connection.start is the same octet by octet, %s', async (kind) => {
    const starts: Buffer[] = [];
    for (const port of kind === 'plain' ? [broker.port, plain.port] : [broker.amqpsPort, encrypted.port]) {
      const peer = kind === 'plain' ? await connectPeer(port) : await overTls(port, trust);
      peer.write(HEADER);
      starts.push(await peer.frame());
      peer.socket.destroy();
    }
    expect(starts[1]).toEqual(starts[0]);
    expect(starts[0]!.includes('PLAIN')).toBe(true);
    expect(starts[0]!.includes('cluster_name')).toBe(true);
  });

  it.each([
    ['PLAIN', credentials.plain('nova', PASSWORD)],
    ['AMQPLAIN', credentials.amqplain('nova', PASSWORD)],
  ])('%s logs in, by TLS and without, and nothing of it is in the log', async (mechanism, login) => {
    const models = [
      await connect(`amqp://127.0.0.1:${plain.port}/`, { credentials: login }),
      await connect(`amqps://127.0.0.1:${encrypted.port}/`, { ...trust, credentials: login }),
    ];
    const listed = await broker.ctl('-q', 'list_connections', 'user', 'auth_mechanism', 'ssl');
    for (const isTls of [false, true]) expect(listed).toContain(`nova\t${mechanism}\t${isTls}`);
    for (const model of models) await (await model.createChannel()).checkExchange('amq.topic');
    await Promise.all(models.map((model) => model.close()));
    const log = JSON.stringify([...plain.log(), ...encrypted.log()]);
    expect(log).toContain('connection open');
    expect(log).not.toContain(PASSWORD);
  });

  it('a refused login gets what the broker says, and a client that is not to be told is hung up on', async () => {
    const wrong: [string, Buffer][] = [
      ['PLAIN', Buffer.from('\0nova\0wrong')],
      ['PLAIN', Buffer.from('no separators')],
      ['AMQPLAIN', amqplain('nova', 'wrong')],
      ['AMQPLAIN', Buffer.from('no table')],
      ['NOSUCH', Buffer.from('x')],
      ['EXTERNAL', Buffer.alloc(0)],
    ];
    const cases = wrong.flatMap(([mechanism, response]) =>
      [true, false].map((isTold) => ({ mechanism, response, isTold })),
    );
    const answers = async (open: () => Promise<Peer>) =>
      Promise.all(
        cases.map(async ({ mechanism, response, isTold }) => {
          const { answer } = await login(await open(), mechanism, response, isTold);
          return [mechanism, isTold, answer.toString('latin1')] as const;
        }),
      );
    const [direct, through, directTls, throughTls] = await Promise.all([
      answers(() => connectPeer(broker.port)),
      answers(() => connectPeer(plain.port)),
      answers(() => overTls(broker.amqpsPort, trust)),
      answers(() => overTls(encrypted.port, trust)),
    ]);
    expect(through).toEqual(direct);
    expect(throughTls).toEqual(directTls);
    // Both kinds of answers have been there.
    const plainly = direct.filter(([mechanism]) => mechanism === 'PLAIN').map(([, , answer]) => answer);
    expect(plainly.filter((answer) => answer.includes(refused('PLAIN').slice(4))).length).toBeGreaterThan(0);
    expect(plainly.filter((answer) => answer === '').length).toBeGreaterThan(0);
  });

  it('EXTERNAL is between the client and whoever ends its TLS: through the proxy the broker refuses it', async () => {
    const external = async (peer: Peer) => login(peer, 'EXTERNAL', Buffer.alloc(0), true);
    // The broker itself knows nova by the certificate.
    expect(told(await external(await overTls(broker.amqpsPort, certificate)))).toBe('let in');

    // The proxy takes the certificate, and shows the broker none.
    const throughTls = await external(await overTls(encrypted.port, certificate));
    expect(throughTls.start.includes('EXTERNAL')).toBe(true);
    expect(told(throughTls)).toBe(refused('EXTERNAL'));

    const through = await external(await connectPeer(plain.port));
    expect(through.start.includes('EXTERNAL')).toBe(false);
    expect(told(through)).toBe('closed without a word');
  });

  it('EXTERNAL among its mechanisms does not keep the broker from the PROXY protocol', async () => {
    await using announced = await startBroker(version, {
      plugins: ['rabbitmq_auth_mechanism_ssl'],
      conf: 'auth_mechanisms.1 = PLAIN\nauth_mechanisms.2 = EXTERNAL',
      advanced: '[{rabbit,[{proxy_protocol,true}]}].\n',
    });
    await using proxy = await startTestProxy({
      backend: `127.0.0.1:${announced.port}`,
      backendProxyProtocol: 'v2',
    });
    const model = await connect(`amqp://guest:guest@127.0.0.1:${proxy.port}/`);
    await model.close();
    const external = await login(await connectPeer(proxy.port), 'EXTERNAL', Buffer.alloc(0), true);
    expect(external.start.includes('EXTERNAL')).toBe(false);
    expect(told(external)).toBe('closed without a word');
  });
});
