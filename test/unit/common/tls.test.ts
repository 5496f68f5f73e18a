import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeCa, makeServingCertificate } from '../../../certs/certificates.ts';
import { UsageError } from '../../../common/errors.ts';
import { type TlsFiles, readTlsFiles } from '../../../common/tls.ts';

const folder = mkdtempSync(join(tmpdir(), 'qb-tls-'));
afterAll(() => rmSync(folder, { recursive: true }));
const path = (name: string): string => join(folder, name);

const contents: Record<string, string> = {};

beforeAll(async () => {
  const ca = await makeCa({ commonName: 'ca', days: 1 });
  const one = await makeServingCertificate({ ca, dnsNames: ['one'], ips: [], days: 1 });
  const two = await makeServingCertificate({ ca, dnsNames: ['two'], ips: [], days: 1 });
  const encrypted = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({
    type: 'pkcs8',
    format: 'pem',
    cipher: 'aes-256-cbc',
    passphrase: 'hunter2',
  });
  Object.assign(contents, {
    'ca.crt': ca.cert,
    'one.crt': one.cert,
    'one.key': one.key,
    'chain.crt': one.cert + ca.cert,
    'backwards.crt': ca.cert + one.cert,
    'two.key': two.key,
    'encrypted.key': encrypted,
    'garbage.pem': 'hunter2\n',
    'broken.crt': '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n',
  });
  for (const [name, content] of Object.entries(contents)) writeFileSync(path(name), content);
});

function read(cert: string, key: string, ca?: string): TlsFiles {
  return readTlsFiles({
    certFile: path(cert),
    keyFile: path(key),
    ...(ca === undefined ? {} : { caFile: path(ca) }),
    optionNames: { cert: 'tls-cert', key: 'tls-key', ca: 'tls-ca' },
  });
}

describe('readTlsFiles', () => {
  it('gives the files as they are, with a chain and without', () => {
    expect(read('one.crt', 'one.key')).toEqual({
      cert: Buffer.from(contents['one.crt'] ?? ''),
      key: Buffer.from(contents['one.key'] ?? ''),
    });
    const full = read('chain.crt', 'one.key', 'ca.crt');
    expect(full.cert.toString()).toBe(contents['chain.crt']);
    expect(full.ca?.toString()).toBe(contents['ca.crt']);
  });

  it.each([
    [
      'a certificate that is not there',
      'no.crt',
      'one.key',
      undefined,
      '--tls-cert: ',
      'cannot be read: ENOENT',
    ],
    ['a key that is not there', 'one.crt', 'no.key', undefined, '--tls-key: ', 'cannot be read: ENOENT'],
    ['a CA that is not there', 'one.crt', 'one.key', 'no.crt', '--tls-ca: ', 'cannot be read: ENOENT'],
    [
      'a certificate that is not PEM',
      'garbage.pem',
      'one.key',
      undefined,
      '--tls-cert: ',
      'holds no certificate',
    ],
    [
      'a certificate that does not parse',
      'broken.crt',
      'one.key',
      undefined,
      '--tls-cert: ',
      'certificate 1 in',
    ],
    ['a key that is not PEM', 'one.crt', 'garbage.pem', undefined, '--tls-key: ', 'holds no private key'],
    ['a key with a passphrase', 'one.crt', 'encrypted.key', undefined, '--tls-key: ', 'without a passphrase'],
    ['a key of another certificate', 'one.crt', 'two.key', undefined, '--tls-key: ', 'does not belong'],
    ['a chain in the wrong order', 'backwards.crt', 'one.key', undefined, '--tls-key: ', 'does not belong'],
    ['a CA that holds no certificate', 'one.crt', 'one.key', 'one.key', '--tls-ca: ', 'holds no certificate'],
  ])('refuses %s, naming option and file', (_, cert, key, ca, option, message) => {
    expect(() => read(cert, key, ca)).toThrow(UsageError);
    expect(() => read(cert, key, ca)).toThrow(option);
    expect(() => read(cert, key, ca)).toThrow(message);
    expect(() => read(cert, key, ca)).not.toThrow('hunter2');
  });
});
