import { execFileSync } from 'node:child_process';
import { X509Certificate, createPrivateKey } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { afterAll, describe, expect, it } from 'vitest';
import { runCommandLine } from '../../../cli/run.ts';
import { resolveOptions } from '../../../common/resolve.ts';
import { readTlsFiles } from '../../../common/tls.ts';
import { proxyOptions } from '../../../proxy/options.ts';

const NAMES = ['ca.crt', 'ca.key', 'client.crt', 'client.key', 'server.crt', 'server.key'];

const root = mkdtempSync(join(tmpdir(), 'qb-certs-cli-'));
afterAll(() => rmSync(root, { recursive: true }));
let folders = 0;
const fresh = (): string => join(root, `${++folders}`);

async function certs(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const written = { out: '', err: '' };
  const sink = (name: 'out' | 'err') =>
    new Writable({
      write(chunk, _encoding, done) {
        written[name] += String(chunk);
        done();
      },
    });
  const io = { stdin: Readable.from([]), stdout: sink('out'), stderr: sink('err'), env: {} };
  const loaders = { certs: () => import('../../../cli/certs.ts') };
  const code = await runCommandLine(['certs', ...args], loaders, io);
  return { code, ...written };
}

const textOf = (...path: string[]): string => readFileSync(join(...path), 'utf8');
const certificate = (...path: string[]): X509Certificate => new X509Certificate(textOf(...path));
const days = ({ validFromDate, validToDate }: X509Certificate): number =>
  Math.floor((validToDate.getTime() - validFromDate.getTime()) / 86_400_000);

describe('quorumbridge certs generate', () => {
  it('writes a CA, a server and a client, whose keys none but their owner may read', async () => {
    const folder = join(fresh(), 'deep', 'down');
    const { code, out, err } = await certs('generate', folder);
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(readdirSync(folder).sort()).toEqual(NAMES);
    for (const name of NAMES)
      expect([name, statSync(join(folder, name)).mode & 0o777]).toEqual([
        name,
        name.endsWith('.key') ? 0o600 : 0o644,
      ]);
    for (const name of ['ca', 'server', 'client']) {
      const pair = certificate(folder, `${name}.crt`);
      expect(pair.checkPrivateKey(createPrivateKey(textOf(folder, `${name}.key`)))).toBe(true);
      expect(pair.verify(certificate(folder, 'ca.crt').publicKey)).toBe(true);
      expect(out).toContain(`  subject:  ${pair.subject}\n`);
      expect(out).not.toContain(textOf(folder, `${name}.key`).split('\n')[1]);
    }
    const server = certificate(folder, 'server.crt');
    expect([server, certificate(folder, 'client.crt'), certificate(folder, 'ca.crt')].map(days)).toEqual([
      90, 90, 900,
    ]);
    expect(out).toContain(`  names:    ${server.subjectAltName}\n`);
    expect(server.checkHost('localhost')).toBe('localhost');
    expect(server.checkHost(hostname())).toBe(hostname());
    for (const ip of ['127.0.0.1', '::1']) expect(server.checkIP(ip)).toBe(ip);
  });

  it('prints command lines that the proxy and a shell take', async () => {
    const folder = join(fresh(), "it's here");
    const { out } = await certs('generate', folder);
    const printed = /quorumbridge proxy ([\s\S]*?[^\\])\n\n/.exec(out)![1]!;
    const words = execFileSync('sh', ['-c', `printf '%s\\n' ${printed}`], { encoding: 'utf8' }).trim();
    const flags = Object.fromEntries(
      words.split('\n').map((word) => {
        const [name = '', value = ''] = word.slice(2).split('=');
        return [name.replaceAll(/-(\w)/g, (_, letter: string) => letter.toUpperCase()), value];
      }),
    );
    const { tlsCert, tlsKey, tlsCa } = resolveOptions(proxyOptions, { flags, env: {} }).values;
    const optionNames = { cert: 'tls-cert', key: 'tls-key' };
    const files = readTlsFiles({ certFile: tlsCert!, keyFile: tlsKey!, caFile: tlsCa!, optionNames });
    expect(files.cert.toString()).toBe(textOf(folder, 'server.crt'));
    expect(files.ca!.toString()).toBe(textOf(folder, 'ca.crt'));
  });

  it('takes hosts, a Service, the client, keys and days as they are given', async () => {
    const folder = fresh();
    const names = [
      '--host=10.0.0.5',
      '--host=*.example.org',
      '--service=rabbit.openstack',
      '--client-name=nova',
    ];
    const keys = ['--key-type=rsa', '--rsa-bits=3072', '--days=0.5', '--ca-days=2'];
    const { out } = await certs('generate', folder, ...names, ...keys);
    const server = certificate(folder, 'server.crt');
    expect(server.subjectAltName?.split(', ')).toEqual([
      'DNS:*.example.org',
      'DNS:rabbit',
      'DNS:rabbit.openstack',
      'DNS:rabbit.openstack.svc',
      'DNS:rabbit.openstack.svc.cluster.local',
      'DNS:*.rabbit-nodes.openstack',
      'DNS:*.rabbit-nodes.openstack.svc',
      'DNS:*.rabbit-nodes.openstack.svc.cluster.local',
      'IP Address:10.0.0.5',
    ]);
    expect(server.publicKey.asymmetricKeyDetails?.modulusLength).toBe(3072);
    expect(certificate(folder, 'client.crt').subject).toBe('CN=nova');
    expect([days(server), days(certificate(folder, 'ca.crt'))]).toEqual([0, 2]);
    expect(out).toContain('-connect 10.0.0.5:5671');
  });

  it('overwrites nothing unless it is forced to, and says what is in the way', async () => {
    const folder = fresh();
    mkdirSync(folder);
    writeFileSync(join(folder, 'server.key'), 'precious', { mode: 0o644 });
    const { code, err } = await certs('generate', folder);
    expect(code).toBe(2);
    expect(err).toContain(`option --dir: there already: ${join(folder, 'server.key')}: nothing was written`);
    expect(readdirSync(folder)).toEqual(['server.key']);
    expect(textOf(folder, 'server.key')).toBe('precious');

    expect((await certs('generate', folder, '--force')).code).toBe(0);
    expect(readdirSync(folder).sort()).toEqual(NAMES);
    expect(statSync(join(folder, 'server.key')).mode & 0o777).toBe(0o600);

    rmSync(join(folder, 'ca.crt'));
    mkdirSync(join(folder, 'ca.crt'));
    const before = textOf(folder, 'server.crt');
    const other = await certs('generate', folder, '--force');
    expect(other.err).toContain(`not a file: ${join(folder, 'ca.crt')}: move it away`);
    expect(textOf(folder, 'server.crt')).toBe(before);
  });

  it('renews under the CA that is there, in its own folder', async () => {
    const folder = fresh();
    await certs('generate', folder, '--days=2');
    const before = NAMES.map((name) => textOf(folder, name));
    const authority = [`--ca=${join(folder, 'ca.crt')}`, `--ca-key=${join(folder, 'ca.key')}`];
    const refused = await certs('generate', folder, ...authority);
    expect(refused.err).toContain('there already: ');
    expect(refused.err).not.toContain('ca.crt');
    const { code, out } = await certs('generate', folder, ...authority, '--force');
    expect(code).toBe(0);
    expect(out).toContain('(with its CA)\n');
    const kept = NAMES.filter((name, index) => textOf(folder, name) === before[index]);
    expect(kept).toEqual(['ca.crt', 'ca.key']);
    const server = certificate(folder, 'server.crt');
    expect(server.verify(certificate(folder, 'ca.crt').publicKey)).toBe(true);
    expect(server.validToDate).toEqual(certificate(folder, 'ca.crt').validToDate);

    // Elsewhere the CA's certificate comes along, its key does not.
    const elsewhere = fresh();
    await certs('generate', elsewhere, ...authority, '--expired');
    expect(readdirSync(elsewhere).sort()).toEqual(NAMES.filter((name) => name !== 'ca.key'));
    expect(certificate(elsewhere, 'client.crt').validToDate.getTime()).toBeLessThan(Date.now());
  });

  it('says that a folder cannot be written, with exit code 1', async () => {
    const file = fresh();
    writeFileSync(file, '');
    const { code, err } = await certs('generate', join(file, 'certs'));
    expect(code).toBe(1);
    expect(err).toMatch(/^quorumbridge certs: option --dir: \S+ cannot be written: ENOTDIR.+: name a folder/);
  });

  it.each([
    [['--host=10.0.0.256'], 'option --host: "10.0.0.256" is not valid: expected a DNS name'],
    [['--host=fe80::1%eth0'], 'option --host: "fe80::1%eth0" is not valid'],
    [['--host=müller.example'], 'option --host: "müller.example" is not valid'],
    [['--service=rabbit'], 'option --service: "rabbit" is not valid: expected NAME.NAMESPACE'],
    [[`--service=${'r'.repeat(58)}.ns`], 'with a NAME of at most 57 characters'],
    [[`--client-name=${'n'.repeat(65)}`], 'is not valid: expected 1 to 64 characters'],
    [['--client-name=a\nb'], 'option --client-name: "a\\nb" is not valid'],
    [['--days=0'], 'option --days: "0" is not valid: expected a number of days from 0.001 to 3650'],
    [['--days=3651'], 'option --days: "3651" is not valid'],
    [['--ca-days=36501'], 'option --ca-days: "36501" is not valid'],
    [['--ca-days=5'], 'option --ca-days: 5 is less than --days=90'],
    [['--key-type=dsa'], 'option --key-type: "dsa" is not valid: expected one of ecdsa, rsa'],
    [['--rsa-bits=1024', '--key-type=rsa'], 'option --rsa-bits: "1024" is not valid'],
    [['--rsa-bits=2048'], 'option --rsa-bits: 2048 is for RSA, and the keys are ECDSA: give --key-type=rsa'],
    [['--ca=x'], 'option --ca: x is half of a CA: give --ca-key too'],
    [['--ca-key=x'], 'option --ca-key: x is half of a CA: give --ca too'],
    [['--ca=x', '--ca-key=y', '--ca-days=100'], 'option --ca-days: 100 is for a new CA'],
    [['--ca=/no/such', '--ca-key=y'], 'option --ca: /no/such cannot be read: ENOENT'],
  ])('refuses %j', async (args, message) => {
    const folder = fresh();
    const { code, out, err } = await certs('generate', folder, ...args);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toContain(message);
    expect(() => statSync(folder)).toThrow('ENOENT');
  });

  it('refuses a CA that is none, a key that is not its own, and one of a kind that cannot sign', async () => {
    const folder = fresh();
    await certs('generate', folder);
    const at = (name: string): string => join(folder, name);
    const by = (ca: string, key: string) =>
      certs('generate', fresh(), `--ca=${at(ca)}`, `--ca-key=${at(key)}`).then(({ err }) => err);
    expect(await by('server.crt', 'server.key')).toContain(
      `option --ca: ${at('server.crt')} is not a CA (CN=localhost)`,
    );
    expect(await by('ca.crt', 'server.key')).toContain(
      `option --ca-key: the key in ${at('server.key')} does not belong to the first certificate in ${at('ca.crt')}`,
    );
    expect(await by('ca.key', 'ca.key')).toContain(`option --ca: ${at('ca.key')} holds no certificate`);
    const request = ['-newkey', 'ed25519', '-nodes', '-keyout', at('ed.key'), '-out', at('ed.crt')];
    execFileSync('openssl', ['req', '-x509', ...request, '-subj', '/CN=ed', '-days', '2'], {
      stdio: 'ignore',
    });
    expect(await by('ed.crt', 'ed.key')).toContain(
      `option --ca-key: ${at('ed.key')} holds a CA's key (ed25519) that certificates are not signed with`,
    );
  });
});
