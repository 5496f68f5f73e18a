import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { UsageError } from '../../../../common/errors.ts';
import type { CertificateNames } from '../../../../proxy/access/certificate-names.ts';
import { Credentials } from '../../../../proxy/access/credentials.ts';
import { readCredentials } from '../../../../proxy/access/options.ts';
import { cheapHash, CredentialsFolder } from '../../../support/credentials.ts';

const HASH = cheapHash('geheim-4711');

let files: CredentialsFolder;
let passwordFile: string;
beforeAll(async () => {
  files = await CredentialsFolder.make();
  passwordFile = await files.file('of the broker\n');
});
afterAll(() => files[Symbol.asyncDispose]());

async function read(text: string): Promise<Credentials> {
  return Credentials.read(await files.file(text.replaceAll('FILE', passwordFile).replaceAll('HASH', HASH)));
}

/** What is wrong with a text, a line each, from `line:column` on. */
async function problems(text: string): Promise<string[]> {
  try {
    await read(text);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return error.message.split('\n').map((line) => line.replace(/^\S+\/file-\d+:/, ''));
  }
  return [];
}

function names(some: Partial<CertificateNames>): CertificateNames {
  return { 'common-name': [], 'dns-name': [], uri: [], email: [], ...some };
}

const EXAMPLE = `
clients:
  - user: nova
    password: HASH
    broker:
      user: nova-broker
      password-file: FILE
  - user: glance
    password: "HASH"
  - certificate:
      common-name: cinder.*.svc
      dns-name: [cinder, "cinder-?"]
    user: cinder
    broker: {user: cinder-broker, password-file: FILE}
  - certificate: {uri: "spiffe://openstack/*"}
    user: any
    broker: {user: any-broker, password-file: FILE}
  - certificate: {email: "*@example.org"}
    user: mail
    broker: {user: mail-broker, password-file: FILE}
`;

describe('a credentials file', () => {
  it('says who is let in by a password, and as whom at the broker', async () => {
    const credentials = await read(EXAMPLE);
    expect(credentials.byUser('nova')).toMatchObject({
      user: 'nova',
      broker: { user: 'nova-broker', password: 'of the broker' },
    });
    expect(credentials.byUser('glance')).toMatchObject({ user: 'glance', broker: undefined });
    for (const nobody of ['cinder', 'Nova', '', '__proto__'])
      expect(credentials.byUser(nobody)).toBeUndefined();
    expect(credentials.files).toEqual([expect.stringContaining('file-'), ...Array(4).fill(passwordFile)]);
    expect(credentials.knowsCertificates).toBe(true);
    expect(credentials.nobody?.key).not.toEqual(credentials.byUser('nova')?.password.key);
  });

  it.each([
    [{ 'common-name': ['cinder.openstack.svc'], 'dns-name': ['cinder'] }, 'cinder'],
    [{ 'common-name': ['other', 'cinder.openstack.svc'], 'dns-name': ['other', 'cinder-2'] }, 'cinder'],
    [{ 'common-name': ['cinder.openstack.svc'] }, undefined],
    [{ 'common-name': ['cinder.openstack.svc.evil'], 'dns-name': ['cinder'] }, undefined],
    [{ 'dns-name': ['cinder.openstack.svc', 'cinder'] }, undefined],
    [{ uri: ['spiffe://openstack/ns/cinder'] }, 'any'],
    [{ uri: ['spiffe://openstack'] }, undefined],
    [{ 'common-name': ['spiffe://openstack/ns'], 'dns-name': ['spiffe://openstack/ns'] }, undefined],
    [{ email: ['cinder@example.org'] }, 'mail'],
    [{ email: ['cinder@example.org.evil'] }, undefined],
    [{ uri: ['spiffe://openstack/ns'], email: ['cinder@example.org'] }, 'any'],
    [{}, undefined],
  ])('takes a certificate with %j for %s', async (some, user) => {
    const credentials = await read(EXAMPLE);
    expect(credentials.byCertificate(names(some))?.user).toBe(user);
  });

  it('may have nobody in it, or nobody with a password', async () => {
    expect((await read('clients: []')).nobody).toBeUndefined();
    const one = await read(
      'clients: [{user: a, certificate: {uri: "*"}, broker: {user: b, password-file: FILE}}]',
    );
    expect(one.nobody).toBeUndefined();
  });

  it.each([
    ['', ['1:1: expected a mapping: a credentials file is a mapping with the keys clients']],
    [
      'users: []',
      [
        '1:1: no such key; a credentials file is a mapping with the keys clients',
        '1:1: expected a list of clients',
      ],
    ],
    ['clients: {}', ['1:10: expected a list of clients']],
    ['clients: [{password: "HASH"}]', ['1:11: a client needs "user"']],
    [
      'clients: [{user: "", password: "HASH"}]',
      ['1:18: this is not valid: expected 1 to 255 octets, none of them 0'],
    ],
    [
      'clients: [{user: "a\\0b", password: "HASH"}]',
      ['1:18: this is not valid: expected 1 to 255 octets, none of them 0'],
    ],
    [
      'clients: [{user: nova}]',
      ['1:11: a client is let in by a password or by a certificate: it needs one of the two'],
    ],
    [
      'clients:\n- {user: nova, password: "HASH", certificate: {uri: a}}',
      ['2:3: a client is let in by a password or by a certificate: it needs one of the two'],
    ],
    [
      'clients:\n- {user: nova, password: "HASH"}\n- {user: nova, password: "HASH"}',
      ['3:3: another client has this user, and a password, too'],
    ],
    [
      'clients:\n- {user: nova, certificate: {uri: a}}',
      ['2:3: a client with a certificate needs a user of the broker: give it "broker"'],
    ],
    [
      'clients:\n- {user: nova, certificate: {}, broker: {user: b, password-file: FILE}}',
      ['2:29: certificate needs a name: one of common-name, dns-name, uri, email'],
    ],
    [
      'clients:\n- {user: nova, certificate: {cn: a}, broker: {user: b, password-file: FILE}}',
      ['2:30: no such key; certificate is a mapping with the keys common-name, dns-name, uri, email'],
    ],
    [
      'clients:\n- {user: nova, certificate: {uri: []}, broker: {user: b, password-file: FILE}}',
      ['2:35: expected a pattern, not an empty list'],
    ],
    [
      'clients:\n- {user: nova, password: "HASH", broker: {user: b}}',
      [expect.stringMatching(/^2:\d+: broker needs "password-file"$/)],
    ],
    [
      'clients:\n- user: nova\n  password: "HASH"\n  broker: {user: b, password: geheim-4711}',
      [
        '4:11: broker needs "password-file"',
        '4:21: no such key; broker is a mapping with the keys user, password-file',
      ],
    ],
  ])('is refused with the place of each fault: %j', async (text, expected) => {
    expect(await problems(text)).toEqual(expected);
  });

  it.each([
    ['a password in plain text', '- {user: nova, password: geheim-4711}'],
    ['a hash without quotes, which YAML cuts at its commas', `- {user: nova, password: ${HASH}}`],
    ['a password that is a key', '- {user: nova, geheim-4711: x, password: "HASH"}'],
    [
      'a password for a file',
      '- {user: nova, password: "HASH", broker: {user: b, password-file: geheim-4711}}',
    ],
    ['a password for a list', '- {user: nova, password: [geheim-4711]}'],
    ['text behind a text', '- {user: nova, password: "geheim-4711" "geheim-4711"}'],
    ['a text without its end', '- {user: nova, password: "geheim-4711'],
    ['an alias', '- {user: nova, password: *geheim-4711}'],
    ['a tag', '- {user: nova, password: !geheim-4711 x}'],
    ['a directive', '%geheim-4711\n---\n'],
  ])('tells nothing of what is in it: %s', async (_name, client) => {
    const found = await problems(`clients:\n${client}`);
    expect(found.length).toBeGreaterThan(0);
    expect(found.filter((line) => !/^\d+:\d+: \w/.test(line))).toEqual([]);
    expect(found.join('\n')).not.toMatch(/geheim|scrypt\$|ln=|r=1|p=1/);
  });

  it('says what is wrong with a file of a password, and where', async () => {
    const client = (file: string): string =>
      `clients:\n- user: nova\n  password: HASH\n  broker: {user: b, password-file: ${file}}`;
    const expected =
      'this is not valid: what the file holds is no password: expected 1 to 1024 octets, none of them 0';
    expect(await problems(client('/no/such/file'))).toEqual([
      '4:36: this is not valid: the file cannot be read: ENOENT',
    ]);
    for (const text of ['', '\n', 'a\0b', 'a'.repeat(1025)])
      expect(await problems(client(await files.file(text)))).toEqual([`4:36: ${expected}`]);
    const credentials = await read(client(await files.file(` a\n${'b'.repeat(1000)}\r\n`)));
    expect(credentials.byUser('nova')?.broker?.password).toBe(` a\n${'b'.repeat(1000)}`);
  });

  it('that is not there is refused by the name of the option', () => {
    expect(() => Credentials.read('/no/such/file')).toThrow(
      /^option --credentials: \/no\/such\/file cannot be read: ENOENT/,
    );
  });
});

describe('the option --credentials', () => {
  const given = { mode: 'transparent', tlsCa: undefined } as const;

  it('may be left out', () => {
    expect(readCredentials({ ...given, credentials: undefined })).toBeUndefined();
  });

  it('does not go with mode observe', () => {
    expect(() => readCredentials({ ...given, credentials: '/no/such/file', mode: 'observe' })).toThrow(
      'option --credentials: mode observe changes nothing, and so no login: choose another --mode, or leave the credentials out',
    );
  });

  it('needs --tls-ca for clients with certificates', async () => {
    const credentials = await files.write({ user: 'a', certificate: { uri: '*' }, broker: ['b', 'c'] });
    expect(() => readCredentials({ ...given, credentials })).toThrow(
      `option --credentials: ${credentials} has clients with certificates, and none is asked for one: give --tls-ca`,
    );
    expect(readCredentials({ ...given, credentials, tlsCa: 'ca.crt' })?.knowsCertificates).toBe(true);
  });
});
