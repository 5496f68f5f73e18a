import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TLSSocket, connect, createServer } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type CertificateAndKey,
  makeCa,
  makeClientCertificate,
  makeServingCertificate,
} from '../../../certs/certificates.ts';
import { UsageError } from '../../../common/errors.ts';

let ca: CertificateAndKey;
let serving: CertificateAndKey;
let client: CertificateAndKey;

beforeAll(async () => {
  ca = await makeCa({ commonName: 'Test CA, with "odd" = characters', days: 30 });
  serving = await makeServingCertificate({
    ca,
    dnsNames: ['localhost', 'rabbit.example.svc'],
    ips: ['127.0.0.1', '::1'],
    days: 10,
  });
  client = await makeClientCertificate({ ca, commonName: 'openstack', days: 10 });
});

describe('certificates on a real TLS connection', () => {
  async function handshake(
    servername: string | undefined,
    host: string,
    trust: string,
  ): Promise<{ protocol: string | null; client: string | undefined }> {
    const server = createServer({ ...serving, ca: ca.cert, requestCert: true, rejectUnauthorized: true });
    server.listen(0, host);
    await once(server, 'listening');
    const accepted = once(server, 'secureConnection') as Promise<[TLSSocket]>;
    const socket = connect({
      host,
      port: (server.address() as AddressInfo).port,
      ca: trust,
      ...client,
      ...(servername === undefined ? {} : { servername }),
    });
    try {
      await once(socket, 'secureConnect');
      const [peer] = await accepted;
      return { protocol: socket.getProtocol(), client: peer.getPeerX509Certificate()?.subject };
    } finally {
      socket.destroy();
      server.close();
    }
  }

  it('are accepted on both sides, by name and by address, v4 and v6', async () => {
    const expected = { protocol: 'TLSv1.3', client: 'CN=openstack' };
    expect(await handshake('rabbit.example.svc', '127.0.0.1', ca.cert)).toEqual(expected);
    expect(await handshake(undefined, '127.0.0.1', ca.cert)).toEqual(expected);
    expect(await handshake(undefined, '::1', ca.cert)).toEqual(expected);
  });

  it('are refused for a name they do not carry', async () => {
    await expect(handshake('other.example.svc', '127.0.0.1', ca.cert)).rejects.toMatchObject({
      code: 'ERR_TLS_CERT_ALTNAME_INVALID',
    });
  });

  it('are refused where another CA of the same name is trusted', async () => {
    const stranger = await makeCa({ commonName: 'Test CA, with "odd" = characters', days: 30 });
    await expect(handshake('localhost', '127.0.0.1', stranger.cert)).rejects.toThrow(/certificate/);
  });
});

describe('certificates as openssl sees them', () => {
  const folder = mkdtempSync(join(tmpdir(), 'qb-certs-'));
  afterAll(() => rmSync(folder, { recursive: true }));

  function openssl(...args: string[]): string {
    return execFileSync('openssl', args, {
      cwd: folder,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  }

  beforeAll(() => {
    for (const [name, pair] of Object.entries({ ca, serving, client })) {
      writeFileSync(join(folder, `${name}.crt`), pair.cert);
      writeFileSync(join(folder, `${name}.key`), pair.key);
    }
  });

  it('verify strictly for their purpose and for no other', () => {
    const verify = (purpose: string, file: string): string =>
      openssl('verify', '-x509_strict', '-purpose', purpose, '-CAfile', 'ca.crt', file);
    expect(verify('sslserver', 'serving.crt')).toBe('serving.crt: OK\n');
    expect(verify('sslclient', 'client.crt')).toBe('client.crt: OK\n');
    expect(() => verify('sslclient', 'serving.crt')).toThrow(/purpose/);
    expect(() => verify('sslserver', 'client.crt')).toThrow(/purpose/);
  });

  it('carry key usage, alternative names and key identifiers that link leaf and CA', () => {
    const text = openssl('x509', '-in', 'serving.crt', '-noout', '-text');
    expect(text).toContain('ASN1 OID: prime256v1');
    expect(text).toContain('X509v3 Basic Constraints: critical\n                CA:FALSE');
    expect(text).toContain('X509v3 Key Usage: critical\n                Digital Signature\n');
    expect(text).toContain('TLS Web Server Authentication\n');
    expect(text).toContain(
      'DNS:localhost, DNS:rabbit.example.svc, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1',
    );
    const authority = openssl('x509', '-in', 'ca.crt', '-noout', '-text');
    expect(authority).toContain('X509v3 Basic Constraints: critical\n                CA:TRUE, pathlen:0');
    expect(authority).toContain('X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign\n');
    const subjectKeyId = /Subject Key Identifier: \n\s+(\S+)/.exec(authority)?.[1];
    expect(subjectKeyId).toMatch(/^[0-9A-F:]{59}$/);
    expect(/Authority Key Identifier: \n\s+(\S+)/.exec(text)?.[1]).toBe(subjectKeyId);
  });

  it('come with the private key that belongs to them', () => {
    const publicKey = openssl('x509', '-in', 'client.crt', '-noout', '-pubkey');
    expect(openssl('pkey', '-in', 'client.key', '-pubout')).toBe(publicKey);
  });
});

describe('making certificates', () => {
  it('gives each its own positive serial number of 127 bits', async () => {
    const more = await Promise.all(
      Array.from({ length: 8 }, () => makeClientCertificate({ ca, commonName: 'same', days: 1 })),
    );
    const serials = [ca, serving, client, ...more].map(({ cert }) => new X509Certificate(cert).serialNumber);
    expect(new Set(serials).size).toBe(serials.length);
    for (const serial of serials) expect(serial).toMatch(/^[4-7][0-9A-F]{31}$/);
  });

  it('lasts as long as asked, but never longer than the CA', async () => {
    const days = (pem: string): number => {
      const { validFrom, validTo } = new X509Certificate(pem);
      return Math.floor((Date.parse(validTo) - Date.parse(validFrom)) / 86_400_000);
    };
    const long = await makeServingCertificate({ ca, dnsNames: ['localhost'], ips: [], days: 1000 });
    expect([ca, serving, long].map(({ cert }) => days(cert))).toEqual([30, 10, 30]);
  });

  it('takes a Kubernetes service name longer than a common name may be', async () => {
    const name = `${'a'.repeat(63)}.${'b'.repeat(63)}.svc.cluster.local`;
    const { cert } = await makeServingCertificate({ ca, dnsNames: [name], ips: [], days: 1 });
    expect(new X509Certificate(cert).checkHost(name)).toBe(name);
    expect(new X509Certificate(cert).subject).toBe('CN=server');
  });

  it.each([
    ['a name with a space', { dnsNames: ['not a name'], ips: [] }, '"not a name" is not a DNS name'],
    ['an address given as a name', { dnsNames: ['10.0.0.1'], ips: [] }, '"10.0.0.1" is not a DNS name'],
    ['a name given as an address', { dnsNames: [], ips: ['localhost'] }, '"localhost" is not an IP address'],
    ['nothing', { dnsNames: [], ips: [] }, 'needs a DNS name or an IP address'],
  ])('refuses %s', async (_, names, message) => {
    const made = makeServingCertificate({ ca, ...names, days: 1 });
    await expect(made).rejects.toThrow(UsageError);
    await expect(made).rejects.toThrow(message);
  });

  it('refuses a validity that has no length and a common name out of bounds', async () => {
    await expect(makeCa({ commonName: 'x', days: 0 })).rejects.toThrow('0 days');
    await expect(makeCa({ commonName: 'x'.repeat(65), days: 1 })).rejects.toThrow('1 to 64 characters');
  });
});
