// The proxy has no part in logins: whatever a broker offers and a client answers passes as it came.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { encodeTable, entry, longstr, shortstr } from '../../support/amqp-frames.ts';
import {
  connectPeer,
  HEADER,
  method,
  openThrough,
  type Peer,
  ScriptedBroker,
  startTestProxy,
  type TestProxy,
} from '../../support/peers.ts';

let broker: ScriptedBroker;
let proxy: TestProxy | undefined;

beforeEach(async () => {
  broker = await new ScriptedBroker().start();
});
afterEach(async () => {
  await proxy?.[Symbol.asyncDispose]();
  await broker[Symbol.asyncDispose]();
});

/** A client that has sent its protocol header, and the connection that the broker got for it. */
async function greet(mode: string): Promise<{ client: Peer; upstream: Peer }> {
  proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}`, mode });
  const arriving = broker.next();
  const client = await connectPeer(proxy.port);
  client.write(HEADER);
  const upstream = await arriving;
  await upstream.take(8);
  return { client, upstream };
}

function sized(octets: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(octets.length);
  return Buffer.concat([length, octets]);
}

const START = method(
  0,
  10,
  10,
  Buffer.concat([
    Buffer.of(0, 9),
    encodeTable([
      entry('product', longstr('RabbitMQ')),
      entry('version', longstr('4.3.6')),
      entry('capabilities', { tag: 'F', value: [entry('x', { tag: 't', value: 7 })] }),
      entry('nothing', { tag: 'V' }),
    ]),
    sized(Buffer.from('EXTERNAL PLAIN AMQPLAIN RABBIT-CR-DEMO X-OWN')),
    sized(Buffer.from('en_US de_DE')),
  ]),
);

function startOk(mechanism: string, response: Buffer): Buffer {
  const properties = encodeTable([entry('product', longstr('test'))]);
  return method(
    0,
    10,
    11,
    Buffer.concat([properties, shortstr(mechanism), sized(response), shortstr('en_US')]),
  );
}

const SECRET = 'geheim-4711';
const EVERY_OCTET = Buffer.from(Array.from({ length: 256 }, (_, octet) => octet));

const LOGINS: [name: string, startOk: Buffer][] = [
  ['EXTERNAL without a response', startOk('EXTERNAL', Buffer.alloc(0))],
  ['EXTERNAL as somebody', startOk('EXTERNAL', Buffer.from('nova'))],
  ['PLAIN', startOk('PLAIN', Buffer.from(`\0nova\0${SECRET}`))],
  ['PLAIN on behalf of another', startOk('PLAIN', Buffer.from(`admin\0nova\0${SECRET}`))],
  ['PLAIN without its separators', startOk('PLAIN', Buffer.from(SECRET))],
  ['PLAIN with a token of 60 KB', startOk('PLAIN', Buffer.from(`\0\0${SECRET.repeat(6000)}`))],
  [
    'AMQPLAIN',
    startOk(
      'AMQPLAIN',
      encodeTable([entry('LOGIN', longstr('nova')), entry('PASSWORD', longstr(SECRET))]).subarray(4),
    ),
  ],
  ['AMQPLAIN that is no table', startOk('AMQPLAIN', EVERY_OCTET)],
  ['a mechanism of their own with every octet', startOk('X-OWN', EVERY_OCTET)],
  ['properties that are no table', method(0, 10, 11, Buffer.from(`\xff\xff\xff\xff${SECRET}`, 'latin1'))],
  ['nothing at all', method(0, 10, 11)],
];

describe.each(['transparent', 'observe'])('in mode %s', (mode) => {
  it('what the broker says of itself and offers reaches the client octet by octet', async () => {
    const { client, upstream } = await greet(mode);
    upstream.write(START);
    expect(await client.take(START.length)).toEqual(START);
  });

  it.each(LOGINS)('a login reaches the broker octet by octet, and no log: %s', async (_name, login) => {
    const { client, upstream } = await greet(mode);
    upstream.write(START);
    await client.frame();
    client.write(login);
    expect((await upstream.take(login.length)).equals(login)).toBe(true);
    client.socket.destroy();
    await upstream.until('the end', ({ ended, closed }) => ended || closed);
    const metrics = (await proxy!.metric('')).join('\n');
    expect(metrics).toContain('quorumbridge_proxy_connections_total');
    expect(JSON.stringify(proxy!.log()) + metrics).not.toContain(SECRET);
  });

  it('challenges and their answers pass, in any number', async () => {
    const { client, upstream } = await greet(mode);
    upstream.write(START);
    await client.frame();
    const login = startOk('RABBIT-CR-DEMO', Buffer.from('nova'));
    client.write(login);
    await upstream.take(login.length);
    for (const round of ['Please tell me your password', '', 'again']) {
      const secure = method(0, 10, 20, sized(Buffer.from(round)));
      upstream.write(secure);
      expect(await client.take(secure.length)).toEqual(secure);
      const answer = method(0, 10, 21, sized(Buffer.from(`My password is ${SECRET}`)));
      client.write(answer);
      expect(await upstream.take(answer.length)).toEqual(answer);
    }
    expect(JSON.stringify(proxy!.log())).not.toContain(SECRET);
  });
});

it('a new secret for an open connection passes, and so does the answer', async () => {
  proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}` });
  const { client, upstream } = await openThrough(broker, proxy.port);
  const update = method(0, 10, 70, Buffer.concat([sized(Buffer.from(SECRET)), shortstr('expires')]));
  client.write(update);
  expect(await upstream.take(update.length)).toEqual(update);
  const ok = method(0, 10, 71);
  upstream.write(ok);
  expect(await client.take(ok.length)).toEqual(ok);
  expect(JSON.stringify(proxy.log())).not.toContain(SECRET);
});
