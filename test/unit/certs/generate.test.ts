import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ConnectionOptions, type TlsOptions, type TLSSocket, connect, createServer } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Generated, type GenerateSettings, checkAuthority, generate } from '../../../certs/generate.ts';
import type { KeyKind } from '../../../certs/keys.ts';

const DAY_MS = 86_400_000;

function make(settings: Partial<GenerateSettings> = {}): Promise<Generated> {
  return generate({
    hosts: ['localhost', '*.rabbit-nodes.openstack', '127.0.0.1'],
    clientName: 'guest',
    key: { type: 'ecdsa' },
    days: 1,
    expired: false,
    ca: 10,
    now: Date.now(),
    ...settings,
  });
}

/** What both sides say of a connection: the client's subject as the server saw it, or the codes of their errors. */
async function shakeHands(
  server: TlsOptions,
  client: ConnectionOptions,
): Promise<{ seen?: string; client?: string; server?: string }> {
  const listener = createServer({ requestCert: true, rejectUnauthorized: true, ...server });
  const heard: { seen?: string; client?: string; server?: string } = {};
  listener.on('tlsClientError', (error: NodeJS.ErrnoException) => (heard.server = error.code ?? ''));
  listener.on('secureConnection', (socket: TLSSocket) => {
    heard.seen = socket.getPeerX509Certificate()!.subject;
    if (!socket.authorized) heard.server = String(socket.authorizationError);
    socket.on('error', () => {});
    socket.end('welcome');
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as AddressInfo;
  const socket = connect({ host: '127.0.0.1', port, servername: 'localhost', ...client });
  socket.on('error', (error: NodeJS.ErrnoException) => (heard.client = error.code ?? ''));
  socket.resume();
  await once(socket, 'close').catch(() => {});
  listener.close();
  await once(listener, 'close');
  return heard;
}

/** What is given to the two sides for mutual TLS. */
function sides({ ca, server, client }: Generated): [TlsOptions, ConnectionOptions] {
  return [
    { ...server, ca: ca.cert },
    { ...client, ca: ca.cert },
  ];
}

const kinds: KeyKind[] = [{ type: 'ecdsa' }, { type: 'rsa', bits: 2048 }];

describe.each(kinds)('generated certificates, $type', (key) => {
  let good: Generated;
  let ended: Generated;

  beforeAll(async () => {
    good = await make({ key });
    ended = await make({ key, expired: true });
  });

  it.each(['TLSv1.2', 'TLSv1.3'] as const)('do mutual TLS by %s', async (version) => {
    const [server, client] = sides(good);
    const heard = await shakeHands({ ...server, minVersion: version, maxVersion: version }, client);
    expect(heard).toEqual({ seen: 'CN=guest' });
    expect(await shakeHands(server, { ...client, servername: 'rabbit-0.rabbit-nodes.openstack' })).toEqual({
      seen: 'CN=guest',
    });
  });

  it('are refused for a host that they do not carry, by another CA, and a client without one', async () => {
    const [server, client] = sides(good);
    const other = await shakeHands(server, { ...client, servername: 'rabbit.example.org' });
    expect(other.client).toBe('ERR_TLS_CERT_ALTNAME_INVALID');
    const stranger = await make({ key });
    const untrusted = await shakeHands(server, { ...client, ca: stranger.ca.cert });
    expect(untrusted.client).toMatch(/^(?:UNABLE_TO_VERIFY_LEAF_SIGNATURE|SELF_SIGNED_CERT_IN_CHAIN)$/);
    const bare = await shakeHands(server, { ca: good.ca.cert });
    expect(bare.server).toBe('ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE');
    expect(bare.seen).toBeUndefined();
  });

  it('that have ended are refused by clients and by servers', async () => {
    expect((await shakeHands(...sides(ended))).client).toBe('CERT_HAS_EXPIRED');
    // A client that does not look at the server's is refused for its own.
    const [server, client] = sides(ended);
    const blind = { ...client, rejectUnauthorized: false };
    expect((await shakeHands(server, blind)).seen).toBeUndefined();
    const asked = await shakeHands({ ...server, rejectUnauthorized: false }, blind);
    expect(asked).toEqual({ seen: 'CN=guest', server: 'CERT_HAS_EXPIRED' });
    for (const { cert } of [ended.server, ended.client]) {
      const ago = Date.now() - new X509Certificate(cert).validToDate.getTime();
      expect(Math.round(ago / 60_000)).toBe(60);
    }
    expect(() => checkAuthority(ended.ca.cert, 'the CA', Date.now())).not.toThrow();
  });

  it('say what their keys are for', () => {
    const text = execFileSync('openssl', ['x509', '-noout', '-text'], {
      input: good.server.cert,
      encoding: 'utf8',
    });
    const usage = /X509v3 Key Usage: critical\n\s+(.+)\n/.exec(text)?.[1];
    expect(usage).toBe({ ecdsa: 'Digital Signature', rsa: 'Digital Signature, Key Encipherment' }[key.type]);
    expect(text).toMatch({ ecdsa: /ASN1 OID: prime256v1/, rsa: /Public-Key: \(2048 bit\)/ }[key.type]);
  });
});

describe('names', () => {
  it('of the server hold every form of an address as what it is', async () => {
    const { server } = await make({ hosts: ['::1', '2001:DB8::1', '2001:db8:0::1', '::ffff:10.0.0.1'] });
    const certificate = new X509Certificate(server.cert);
    expect(certificate.subjectAltName).toBe(
      'IP Address:0:0:0:0:0:0:0:1, IP Address:2001:DB8:0:0:0:0:0:1, IP Address:0:0:0:0:0:FFFF:A00:1',
    );
    expect(certificate.checkIP('::ffff:10.0.0.1')).toBe('::ffff:10.0.0.1');
  });

  it.each([
    ['nova', 'DNS:nova'],
    ['nova@example.org', 'email:nova@example.org'],
    ['Nova & Söhne', undefined],
  ])('of the client %s are alternative ones where they have the form', async (clientName, names) => {
    const certificate = new X509Certificate((await make({ clientName })).client.cert);
    expect(certificate.subjectAltName).toBe(names);
    expect(certificate.toLegacyObject().subject).toMatchObject({ CN: clientName });
  });
});

describe('a CA of another maker', () => {
  const folder = mkdtempSync(join(tmpdir(), 'qb-foreign-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  const openssl = (...args: string[]): string =>
    execFileSync('openssl', args, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  const file = (name: string): string => readFileSync(join(folder, name), 'utf8');

  beforeAll(() => {
    openssl('genrsa', '-traditional', '-out', 'root.key', '2048');
    const root = ['-subj', '/O=Example/CN=Root', '-addext', 'keyUsage=critical,keyCertSign', '-days', '5'];
    openssl('req', '-x509', '-key', 'root.key', '-out', 'root.crt', ...root);
    openssl('ecparam', '-name', 'secp384r1', '-genkey', '-noout', '-out', 'sub.key');
    openssl('req', '-new', '-key', 'sub.key', '-out', 'sub.csr', '-subj', '/O=Example/CN=Sub');
    // A key identifier that is no hash of the key.
    const extensions = ['basicConstraints=critical,CA:TRUE', 'subjectKeyIdentifier=0102030405'];
    writeFileSync(
      join(folder, 'sub.ext'),
      `${[...extensions, 'authorityKeyIdentifier=keyid', 'keyUsage=critical,keyCertSign'].join('\n')}\n`,
    );
    const signed = ['-CA', 'root.crt', '-CAkey', 'root.key', '-CAcreateserial', '-extfile', 'sub.ext'];
    openssl('x509', '-req', '-in', 'sub.csr', ...signed, '-days', '3', '-out', 'sub.crt');
  });

  it('signs with its RSA key in PKCS #1, and openssl finds the chain in order', async () => {
    const made = await make({ ca: { cert: file('root.crt'), key: file('root.key') }, days: 30 });
    expect(made.ca).toEqual({ cert: file('root.crt') });
    for (const name of ['server', 'client'] as const) {
      writeFileSync(join(folder, `${name}.crt`), made[name].cert);
      const verify = ['verify', '-x509_strict', '-purpose', `ssl${name}`, '-CAfile', 'root.crt'];
      expect(openssl(...verify, `${name}.crt`)).toBe(`${name}.crt: OK\n`);
    }
    const { validToDate } = new X509Certificate(made.server.cert);
    expect(validToDate).toEqual(new X509Certificate(file('root.crt')).validToDate);
    expect(await shakeHands(...sides(made))).toEqual({ seen: 'CN=guest' });
  });

  it('that is an intermediate one is shown behind the leaf, to peers that know the root alone', async () => {
    const cert = file('sub.crt') + file('root.crt');
    const made = await make({ ca: { cert, key: file('sub.key') }, key: { type: 'rsa', bits: 2048 } });
    expect(made.server.cert.match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
    const [server, client] = sides({ ...made, ca: { cert: file('root.crt') } });
    expect(await shakeHands(server, client)).toEqual({ seen: 'CN=guest' });
    expect(new X509Certificate(made.server.cert).checkIssued(new X509Certificate(cert))).toBe(true);
  });

  it('has to be one, today', async () => {
    const { server, ca } = await make();
    const check =
      (pem: string, days = 0) =>
      () =>
        checkAuthority(pem, 'option --ca: x', Date.now() + days * DAY_MS);
    expect(check(ca.cert)).not.toThrow();
    expect(check(server.cert)).toThrow('option --ca: x is not a CA (CN=localhost): expected');
    expect(check(ca.cert, 11)).toThrow(
      /^option --ca: x \(CN=Quorumbridge CA \w{8}\) is valid from .+, not now/,
    );
    expect(check(ca.cert, -1)).toThrow('not now: give another CA');
    expect(check(file('sub.crt'))).toThrow('has no root');
    expect(check(file('sub.crt') + file('root.crt'))).not.toThrow();
  });
});
