// The proxy's own credentials as clients meet them, in both modes that have them, by sockets.
import { once } from 'node:events';
import { copyFile, readFile, writeFile } from 'node:fs/promises';
import tls from 'node:tls';
import type { JsonGeneralName } from '@peculiar/x509';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type CertificateAndKey, makeCa, makeServingCertificate } from '../../../../certs/certificates.ts';
import { hashPassword } from '../../../../proxy/access/password-hash.ts';
import { encodeTable, entry, longstr } from '../../../support/amqp-frames.ts';
import { AnsweringBroker } from '../../../support/answering-broker.ts';
import { certificateOf } from '../../../support/client-certificate.ts';
import { cheapHash, CredentialsFolder, type TestClient } from '../../../support/credentials.ts';
import {
  connectPeer,
  HEADER,
  OPEN_ARGUMENTS,
  Peer,
  method,
  startTestProxy,
  type TestProxy,
  tuneArguments,
} from '../../../support/peers.ts';
import { RawClient, type RawOptions, startOk } from '../../../support/raw-client.ts';

const OFFERED = 'PLAIN AMQPLAIN RABBIT-CR-DEMO EXTERNAL ANONYMOUS';

let broker: AnsweringBroker;
let files: CredentialsFolder;
let ca: CertificateAndKey;
/** Files of TLS, by the options that name them. */
let secure: Record<'tlsCert' | 'tlsKey' | 'tlsCa', string>;
const running: AsyncDisposable[] = [];

beforeAll(async () => {
  files = await CredentialsFolder.make();
  ca = await makeCa({ commonName: 'ca', days: 1 });
  const server = await makeServingCertificate({ ca, dnsNames: ['localhost'], ips: [], days: 1 });
  const [tlsCert, tlsKey, tlsCa] = await Promise.all(
    [server.cert, server.key, ca.cert].map((text) => files.file(text)),
  );
  secure = { tlsCert: tlsCert!, tlsKey: tlsKey!, tlsCa: tlsCa! };
});

afterAll(() => files[Symbol.asyncDispose]());

beforeEach(async () => {
  broker = new AnsweringBroker(2047, OFFERED);
  await broker.start();
  running.push(broker);
});

afterEach(async () => {
  for (const one of running.splice(0).toReversed()) await one[Symbol.asyncDispose]();
});

type Flags = Record<string, string | string[] | boolean>;

async function proxyWith(flags: Flags, ...clients: TestClient[]): Promise<TestProxy> {
  const credentials = await files.write(...clients);
  const proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}`, credentials, ...flags });
  running.push(proxy);
  return proxy;
}

async function client(proxy: TestProxy, options: RawOptions = {}): Promise<RawClient> {
  const one = await RawClient.connect(proxy.port, options);
  running.push(one);
  return one;
}

/** What a client hears: `let in`, or why not. */
async function heard(proxy: TestProxy, options: RawOptions): Promise<string> {
  return client(proxy, options).then(
    () => 'let in',
    (error: Error) => error.message,
  );
}

function refused(mechanism: string): string {
  return (
    `connection.close 403 ACCESS_REFUSED - Login was refused using authentication mechanism ${mechanism}. ` +
    "For details see the proxy's log. (0.0)"
  );
}

function amqplain(user: string, password: string): RawOptions {
  const table = encodeTable([entry('LOGIN', longstr(user)), entry('PASSWORD', longstr(password))]);
  return { sasl: { mechanism: 'AMQPLAIN', response: table.subarray(4) } };
}

function sasl(mechanism: string, response = ''): RawOptions {
  return { sasl: { mechanism, response: Buffer.from(response) } };
}

/** The login that the broker has got last: mechanism and response. */
function loginAtBroker(): string {
  const octets = broker.startOks.at(-1)!;
  let at = 11 + 4 + octets.readUInt32BE(11);
  const mechanism = octets.toString('latin1', at + 1, at + 1 + octets[at]!);
  at += 1 + mechanism.length;
  return `${mechanism} ${octets.toString('latin1', at + 4, at + 4 + octets.readUInt32BE(at))}`;
}

/** What the log says of refused logins. */
function reasons(proxy: TestProxy): unknown[] {
  return proxy.log().flatMap(({ code, msg }) => (code === 'LOGIN_REFUSED' ? [msg] : []));
}

const NOVA: TestClient = { user: 'nova', password: 'geheim-4711', broker: ['nova-broker', 'of the broker'] };
const GLANCE: TestClient = { user: 'glance', password: 'glance-0815' };

describe.each(['transparent', 'pool'])('in mode %s', (mode) => {
  describe('a client with a password', () => {
    it.each([
      ['PLAIN', { user: 'nova', password: 'geheim-4711' }],
      ['AMQPLAIN', amqplain('nova', 'geheim-4711')],
    ])('is logged in at the broker as the file says, by %s', async (_name, login) => {
      const proxy = await proxyWith({ mode }, GLANCE, NOVA);
      expect(await heard(proxy, login)).toBe('let in');
      expect(loginAtBroker()).toBe('PLAIN \0nova-broker\0of the broker');
    });

    it.each([
      ['PLAIN', { user: 'glance', password: 'glance-0815' }, 'PLAIN \0glance\0glance-0815'],
      [
        'AMQPLAIN',
        amqplain('glance', 'glance-0815'),
        'AMQPLAIN \x05LOGINS\0\0\0\x06glance\x08PASSWORDS\0\0\0\x0bglance-0815',
      ],
    ])(
      'logs in at the broker by itself where the file says no more, by %s',
      async (_name, login, expected) => {
        const proxy = await proxyWith({ mode }, GLANCE, NOVA);
        expect(await heard(proxy, login)).toBe('let in');
        expect(loginAtBroker()).toBe(expected);
      },
    );

    it.each<[string, RawOptions, string, string]>([
      [
        'a wrong password',
        { user: 'nova', password: 'glance-0815' },
        'PLAIN',
        "a wrong password of user 'nova'",
      ],
      ['no password', { user: 'nova', password: '' }, 'PLAIN', "a wrong password of user 'nova'"],
      ['a wrong password, AMQPLAIN', amqplain('nova', 'x'), 'AMQPLAIN', "a wrong password of user 'nova'"],
      [
        "the broker's login",
        { user: 'nova-broker', password: 'of the broker' },
        'PLAIN',
        "no user 'nova-broker'",
      ],
      ['an unknown user', { user: 'nobody', password: 'geheim-4711' }, 'PLAIN', "no user 'nobody'"],
      ['a long password', { user: 'nova', password: 'x'.repeat(1025) }, 'PLAIN', 'its password is too long'],
      ['a long name', { user: 'n'.repeat(256), password: 'x' }, 'PLAIN', 'its response is malformed'],
      ['no separators', sasl('PLAIN', 'geheim-4711'), 'PLAIN', 'its response is malformed'],
      ['no table', sasl('AMQPLAIN', 'geheim-4711'), 'AMQPLAIN', 'its response is malformed'],
      ['EXTERNAL', sasl('EXTERNAL'), 'EXTERNAL', 'it has shown no certificate'],
      ['ANONYMOUS', sasl('ANONYMOUS'), 'ANONYMOUS', 'the proxy does not take this mechanism'],
    ])(
      'is refused with %s, in the broker’s way, and the log says why',
      async (_name, login, mechanism, why) => {
        const proxy = await proxyWith({ mode }, GLANCE, NOVA);
        expect(await heard(proxy, login)).toBe(refused(mechanism));
        expect(await heard(proxy, { ...login, failureClose: false })).toBe('closed');
        expect(broker.startOks).toEqual([]);
        const line = `login refused, mechanism ${mechanism}: ${why} (--credentials)`;
        expect(reasons(proxy)).toEqual([line, line]);
        const [errors] = await proxy.metric('quorumbridge_proxy_errors_total{code="LOGIN_REFUSED",');
        expect(errors).toBe('class="permanent"} 2');
        expect(JSON.stringify(proxy.log())).not.toMatch(/geheim|0815|of the broker|scrypt\$/);
      },
    );

    it('is offered the mechanisms that the proxy takes', async () => {
      const proxy = await proxyWith({ mode }, NOVA);
      expect(await offered(await connectPeer(proxy.port))).toBe('PLAIN AMQPLAIN');
    });

    it('may send what comes behind its login with it', async () => {
      const proxy = await proxyWith({ mode }, NOVA);
      const peer = await connectPeer(proxy.port);
      running.push({ [Symbol.asyncDispose]: async () => void peer.socket.destroy() });
      peer.write(
        Buffer.concat([
          HEADER,
          startOk({ user: 'nova', password: 'geheim-4711' }),
          method(0, 10, 31, tuneArguments(131_072, 100)),
          method(0, 10, 40, OPEN_ARGUMENTS),
        ]),
      );
      const methods = [];
      for (let count = 0; count < 3; count++) methods.push((await peer.frame()).readUInt16BE(9));
      expect(methods).toEqual([10, 30, 41]);
      expect(loginAtBroker()).toBe('PLAIN \0nova-broker\0of the broker');
    });

    it('logs in once', async () => {
      const proxy = await proxyWith({ mode }, NOVA, GLANCE);
      const peer = await connectPeer(proxy.port);
      running.push({ [Symbol.asyncDispose]: async () => void peer.socket.destroy() });
      const logins = [startOk({ user: 'nova', password: 'geheim-4711' }), startOk({ user: 'admin' })];
      peer.write(Buffer.concat([HEADER, ...logins]));
      await peer.until('the end', ({ ended }) => ended);
      expect(peer.received.toString('latin1')).toContain('COMMAND_INVALID - a second connection.start-ok');
      expect(broker.startOks.map((octets) => octets.includes('admin'))).not.toContain(true);
    });

    it('that goes while its password is tried leaves nothing behind', async () => {
      const proxy = await proxyWith({ mode }, NOVA);
      const peer = await connectPeer(proxy.port);
      peer.write(HEADER);
      await peer.frame();
      peer.write(startOk({ user: 'nova', password: 'geheim-4711' }));
      peer.socket.destroy();
      const ended = 'quorumbridge_proxy_connections_active ';
      await expect.poll(() => proxy.metric(ended), { timeout: 15_000 }).toEqual(['0']);
      expect(await heard(proxy, { user: 'nova', password: 'geheim-4711' })).toBe('let in');
      expect(proxy.log().filter(({ code }) => code === 'INTERNAL')).toEqual([]);
    });

    it('is known by its own user to limits, access rules, metrics and the admin port, and by both to the audit log', async () => {
      const audit = await files.file('');
      const other: TestClient = { user: 'other', password: 'other-1', broker: NOVA.broker! };
      const proxy = await proxyWith(
        { mode, maxConnectionsPerUser: '1', userVhosts: ['nova=/', 'other=/'], auditLog: audit },
        NOVA,
        other,
      );
      const nova = await client(proxy, { user: 'nova', password: 'geheim-4711' });
      expect(await heard(proxy, { user: 'other', password: 'other-1' })).toBe('let in');
      expect(await heard(proxy, { user: 'nova', password: 'geheim-4711' })).toBe(
        "connection.close 530 NOT_ALLOWED - connection refused for user 'nova': user connection limit (1) is reached (10.40)",
      );
      expect(await proxy.metric('quorumbridge_proxy_connections_open{vhost="/",user=')).toEqual([
        '"nova"} 1',
        '"other"} 1',
      ]);
      const { port } = proxy.proxy.adminAddress;
      const answer = await fetch(`http://127.0.0.1:${port}/connections?user=nova`);
      expect(await answer.json()).toMatchObject({ matching: 1 });
      await nova.close();
      running.splice(running.indexOf(proxy), 1);
      await proxy[Symbol.asyncDispose]();
      const lines = (await readFile(audit, 'utf8')).trim().split('\n');
      expect(
        lines.map((line) => {
          const { event, user, brokerUser } = JSON.parse(line) as Record<string, unknown>;
          return [event, user, brokerUser].join(' ');
        }),
      ).toEqual(
        expect.arrayContaining([
          'opened nova nova-broker',
          'opened other nova-broker',
          'refused nova nova-broker',
          'closed nova nova-broker',
        ]),
      );
    });

    it('goes by the file as it is when it comes, and stays when the file changes', async () => {
      const credentials = await files.write(NOVA);
      const proxy = await proxyWith({ mode, credentials });
      const stays = await client(proxy, { user: 'nova', password: 'geheim-4711' });
      await copyFile(await files.write({ ...NOVA, password: 'neu-1' }), credentials);
      expect(await proxy.proxy.reload('test')).toMatchObject({ result: 'applied' });
      expect(await heard(proxy, { user: 'nova', password: 'geheim-4711' })).toBe(refused('PLAIN'));
      expect(await heard(proxy, { user: 'nova', password: 'neu-1' })).toBe('let in');
      await stays.channels(1);
      await writeFile(credentials, 'clients: [{user: nova, password: geheim-4711}]');
      const document = await proxy.proxy.reload('test');
      expect(document.problems.join('\n')).toMatch(/:1:34: this is not valid: expected a hash/);
      expect(await heard(proxy, { user: 'nova', password: 'neu-1' })).toBe('let in');
      expect(JSON.stringify([document, proxy.log()])).not.toMatch(/geheim|neu-1/);
    });
  });

  it('a changed file of a password is taken at a reload', async () => {
    const password = await files.file('one');
    const hash = cheapHash('glance-0815');
    const credentials = await files.file(
      JSON.stringify({
        clients: [{ user: 'a', password: hash, broker: { user: 'b', 'password-file': password } }],
      }),
    );
    const proxy = await proxyWith({ mode, credentials });
    const login = { user: 'a', password: 'glance-0815' };
    expect(await heard(proxy, login)).toBe('let in');
    expect(loginAtBroker()).toBe('PLAIN \0b\0one');
    await writeFile(password, 'two');
    expect(await proxy.proxy.reload('test')).toMatchObject({ result: 'applied' });
    expect(await heard(proxy, login)).toBe('let in');
    expect(loginAtBroker()).toBe('PLAIN \0b\0two');
  });

  describe('a client with a certificate', () => {
    const CLIENTS: TestClient[] = [
      { user: 'cinder', certificate: { 'common-name': 'cinder.*' }, broker: ['cinder-broker', 'c'] },
      { user: 'neutron', certificate: { 'dns-name': 'neutron' }, broker: ['neutron-broker', 'n'] },
      { user: 'heat', certificate: { uri: 'spiffe://a/*' }, broker: ['heat-broker', 'h'] },
      { user: 'mail', certificate: { email: '?@example.org' }, broker: ['mail-broker', 'm'] },
      NOVA,
    ];

    async function secureProxy(flags: Flags = {}): Promise<TestProxy> {
      return proxyWith(
        { mode, listen: ['amqps://127.0.0.1:0'], ...secure, tlsClientAuth: 'request', ...flags },
        ...CLIENTS,
      );
    }

    async function withCertificate(
      commonName: string,
      names: JsonGeneralName[] = [],
    ): Promise<{ tls: tls.ConnectionOptions }> {
      const { cert, key } = await certificateOf(ca, [commonName], names);
      return { tls: { ca: ca.cert, servername: 'localhost', cert, key } };
    }

    it.each<[string, string, JsonGeneralName[], string]>([
      ['common name', 'cinder.openstack', [], 'PLAIN \0cinder-broker\0c'],
      ['DNS name', 'x', [{ type: 'dns', value: 'neutron' }], 'PLAIN \0neutron-broker\0n'],
      ['URI', 'x', [{ type: 'url', value: 'spiffe://a/heat' }], 'PLAIN \0heat-broker\0h'],
      ['address of mail', 'x', [{ type: 'email', value: 'a@example.org' }], 'PLAIN \0mail-broker\0m'],
    ])('is offered EXTERNAL, and is who the file says by its %s', async (_name, commonName, names, login) => {
      const proxy = await secureProxy();
      const shown = await withCertificate(commonName, names);
      expect(await offered(await overTls(proxy, shown.tls))).toBe('PLAIN AMQPLAIN EXTERNAL');
      expect(await heard(proxy, { ...shown, ...sasl('EXTERNAL') })).toBe('let in');
      expect(loginAtBroker()).toBe(login);
      const users = await proxy.metric('quorumbridge_proxy_connections_open{vhost="/",user=');
      expect(users).toEqual([`"${/\0(\w+)-broker/.exec(login)![1]}"} 1`]);
    });

    it('that is nobody’s, or without one, is not', async () => {
      const proxy = await secureProxy();
      const strange = await withCertificate('x', [{ type: 'dns', value: 'neutron.evil' }]);
      const none = { tls: { ca: ca.cert, servername: 'localhost' } };
      for (const shown of [strange, none]) {
        expect(await offered(await overTls(proxy, shown.tls))).toBe('PLAIN AMQPLAIN');
        expect(await heard(proxy, { ...shown, ...sasl('EXTERNAL') })).toBe(refused('EXTERNAL'));
        expect(await heard(proxy, { ...shown, user: 'nova', password: 'geheim-4711' })).toBe('let in');
      }
      expect(reasons(proxy)).toEqual([
        "login refused, mechanism EXTERNAL: its certificate is nobody's (--credentials)",
        'login refused, mechanism EXTERNAL: it has shown no certificate (--credentials)',
      ]);
    });

    it('of another authority is refused before it can log in', async () => {
      const proxy = await secureProxy();
      const { cert, key } = await certificateOf(await makeCa({ commonName: 'ca', days: 1 }), ['cinder.a']);
      const shown = { tls: { ca: ca.cert, servername: 'localhost', cert, key } };
      expect(await heard(proxy, { ...shown, ...sasl('EXTERNAL') })).not.toBe('let in');
      expect(broker.startOks).toEqual([]);
    });

    it('has no password: its user can’t be taken with any', async () => {
      const proxy = await secureProxy();
      const shown = await withCertificate('cinder.openstack');
      for (const password of ['', 'c', 'geheim-4711'])
        expect(await heard(proxy, { ...shown, user: 'cinder', password })).toBe(refused('PLAIN'));
      expect(await heard(proxy, { ...shown, user: 'nova', password: 'geheim-4711' })).toBe('let in');
      expect(loginAtBroker()).toBe('PLAIN \0nova-broker\0of the broker');
    });

    it('is who it is also when its TLS session is resumed', async () => {
      const proxy = await secureProxy();
      const shown = await withCertificate('cinder.openstack');
      const first = tls.connect({ ...shown.tls, host: '127.0.0.1', port: proxy.port });
      const [session] = (await once(first, 'session')) as [Buffer];
      first.destroy();
      const again = await overTls(proxy, { ...shown.tls, session });
      expect((again.socket as tls.TLSSocket).isSessionReused()).toBe(true);
      expect(await offered(again)).toBe('PLAIN AMQPLAIN EXTERNAL');
    });
  });

  it('a client of AMQP 1.0 is told what is spoken here, and closed', async () => {
    const proxy = await proxyWith({ mode }, NOVA);
    const peer = await connectPeer(proxy.port);
    peer.write(Buffer.from('AMQP\0\x01\0\0', 'latin1'));
    await peer.until('the end', ({ ended }) => ended);
    expect(peer.received).toEqual(HEADER);
    expect(broker.peers).toEqual([]);
  });
});

/** The mechanisms in connection.start. */
async function offered(peer: Peer): Promise<string> {
  running.push({ [Symbol.asyncDispose]: async () => void peer.socket.destroy() });
  peer.write(HEADER);
  const start = await peer.frame();
  const at = 13 + 4 + start.readUInt32BE(13);
  return start.toString('latin1', at + 4, at + 4 + start.readUInt32BE(at));
}

async function overTls({ port }: TestProxy, options: tls.ConnectionOptions): Promise<Peer> {
  const socket = tls.connect({ ...options, host: '127.0.0.1', port });
  await once(socket, 'secureConnect');
  return new Peer(socket);
}

describe('in mode transparent', () => {
  it('every other octet of the login stays as the client sent it', async () => {
    const proxy = await proxyWith({}, NOVA);
    const options = { name: 'my connection', cancelNotify: false };
    await client(proxy, { ...options, user: 'nova', password: 'geheim-4711' });
    await client(proxy, { ...options, ...amqplain('nova', 'geheim-4711') });
    const expected = startOk({ ...options, user: 'nova-broker', password: 'of the broker' });
    expect(broker.startOks).toEqual([expected, expected]);
  });
});

describe('in mode pool', () => {
  it('clients that are logged in alike share a connection to the broker, whoever they are', async () => {
    const cinder: TestClient = { user: 'cinder', certificate: { 'common-name': '*' }, broker: NOVA.broker! };
    const flags = { mode: 'pool', listen: ['amqps://127.0.0.1:0'], ...secure, tlsClientAuth: 'request' };
    const proxy = await proxyWith(flags, NOVA, cinder, GLANCE);
    const server = { ca: ca.cert, servername: 'localhost' };
    const options: RawOptions[] = [{ user: 'nova', password: 'geheim-4711', tls: server }];
    for (const name of ['one', 'two']) {
      const { cert, key } = await certificateOf(ca, [name]);
      options.push({ ...sasl('EXTERNAL'), tls: { ...server, cert, key } });
    }
    for (const one of options) await (await client(proxy, one)).channels(1);
    expect(broker.startOks).toHaveLength(1);
    await (await client(proxy, { user: 'glance', password: 'glance-0815', tls: server })).channels(1);
    expect(broker.startOks).toHaveLength(2);
  });
});

/** Passwords are tried as fast as the machine is: see to it that nothing here depends on that. */
describe('a storm of wrong passwords', { timeout: 90_000 }, () => {
  it('is refused beyond a bound, while others go on and clients that are known are let in', async () => {
    const password = await hashPassword(Buffer.from('geheim-4711'));
    const credentials = await files.file(JSON.stringify({ clients: [{ user: 'nova', password }] }));
    const proxy = await proxyWith({ credentials, handshakeTimeout: '60' });
    const known = { user: 'nova', password: 'geheim-4711' };
    const beside = await client(proxy, known);
    const storm = Array.from({ length: 100 }, async (_, at) =>
      heard(proxy, { user: `nobody ${at}`, password: 'wrong' }),
    );
    const overload = 'more logins wait to be checked than the proxy has room for: try again later';
    await Promise.any(
      storm.map(async (one) => {
        if (!(await one).includes(overload)) throw new Error('not yet');
      }),
    );
    await beside.channels(1, 2, 3);
    expect(await heard(proxy, known)).toBe('let in');
    // What is decided was so before: nearly all of the passwords are still to be tried.
    const pending = Symbol('pending');
    const decided = await Promise.all(storm.map((one) => Promise.race([one, Promise.resolve(pending)])));
    expect(decided).toContain(pending);
    expect(decided).toContain(`connection.close 320 CONNECTION_FORCED - ${overload} (0.0)`);
    expect(decided).not.toContain('let in');
  });

  it('leaves those that wait too long to the deadline of the handshake', async () => {
    // Each of these takes as long as a hash may.
    const hash = cheapHash('x').replace('ln=10,r=1,p=1', 'ln=16,r=8,p=4');
    const credentials = await files.file(JSON.stringify({ clients: [{ user: 'nova', password: hash }] }));
    const proxy = await proxyWith({ credentials, handshakeTimeout: '0.1' });
    const waiting = ['a', 'b', 'c', 'd', 'e'].map((password) => heard(proxy, { user: 'nova', password }));
    expect((await Promise.all(waiting)).at(-1)).toBe(
      'connection.close 320 CONNECTION_FORCED - the handshake took more than 0.1 s (0.0)',
    );
    expect(broker.startOks).toEqual([]);
  });
});
