import { execFileSync } from 'node:child_process';
import { mkdtempDisposable, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { once } from 'node:events';
import { describe, expect, it, vi } from 'vitest';
import { type CertificateAndKey, makeCa, makeServingCertificate } from '../../../certs/certificates.ts';
import {
  CertificateStats,
  type ServingCertificate,
  watchCertificate,
} from '../../../common/certificate-watch.ts';
import { UsageError } from '../../../common/errors.ts';
import { startWebhook } from '../../../webhook/main.ts';
import { filesSource, selfSignedSource } from '../../../webhook/tls.ts';
import { readableLog, webhookValues } from './harness.ts';

async function leaf(ca: CertificateAndKey, days = 90): Promise<CertificateAndKey> {
  return makeServingCertificate({ ca, dnsNames: ['localhost'], ips: ['127.0.0.1'], days });
}

async function served(port: number, ca: string): Promise<string> {
  const socket = connect({ host: '127.0.0.1', port, ca });
  await once(socket, 'secureConnect');
  const { serialNumber } = socket.getPeerCertificate();
  socket.destroy();
  return serialNumber;
}

describe('the serving certificate from files', () => {
  it('is taken into use when both files have changed, and not while they do not belong together', async () => {
    await using folder = await mkdtempDisposable(join(tmpdir(), 'webhook-tls-'));
    const [certFile, keyFile] = [join(folder.path, 'tls.crt'), join(folder.path, 'tls.key')];
    const ca = await makeCa({ commonName: 'test', days: 1 });
    const [first, second] = [await leaf(ca), await leaf(ca, 0.5)];
    await writeFile(certFile, first.cert);
    await writeFile(keyFile, first.key);
    const source = filesSource(certFile, keyFile);
    const { log, lines } = readableLog();
    const stats = new CertificateStats();
    const used: string[] = [];
    const stop = watchCertificate({
      source,
      initial: await source(),
      intervalMs: 5,
      log,
      stats,
      use: ({ cert }: ServingCertificate) => used.push(String(cert)),
    });
    try {
      expect(stats.notAfter * 1000).toBeGreaterThan(Date.now() + 0.9 * 86_400_000);
      await writeFile(certFile, second.cert);
      await vi.waitFor(() => expect(stats.failures).toBeGreaterThan(2));
      expect(used).toEqual([]);
      expect(lines.filter(({ level }) => level === 'warn')).toHaveLength(1);
      expect(lines[0]?.['why']).toContain('does not belong to');
      await writeFile(`${keyFile}.new`, second.key);
      await rename(`${keyFile}.new`, keyFile);
      await vi.waitFor(() => expect(used).toEqual([second.cert]));
      expect(stats.reloads).toBe(1);
      expect(stats.notAfter * 1000).toBeLessThan(Date.now() + 0.6 * 86_400_000);
    } finally {
      stop();
    }
    const { failures } = stats;
    await writeFile(certFile, 'broken');
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(stats.failures).toBe(failures);
  });

  it('is served by the webhook, and the next one to new connections once it is there', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    await using folder = await mkdtempDisposable(join(tmpdir(), 'webhook-tls-'));
    const [tlsCert, tlsKey] = [join(folder.path, 'tls.crt'), join(folder.path, 'tls.key')];
    const ca = await makeCa({ commonName: 'test', days: 1 });
    const write = async ({ cert, key }: CertificateAndKey): Promise<void> => {
      await writeFile(tlsCert, cert);
      await writeFile(tlsKey, key);
    };
    await write(await leaf(ca));
    const { log, lines } = readableLog();
    const running = await startWebhook(webhookValues({ tlsCert, tlsKey }), log);
    try {
      const before = await served(running.address.port, ca.cert);
      await write(await leaf(ca));
      vi.advanceTimersByTime(10_000);
      await vi.waitFor(() => expect(lines.map(({ msg }) => msg)).toContain('new serving certificate in use'));
      const after = await served(running.address.port, ca.cert);
      expect(after).not.toBe(before);
    } finally {
      vi.useRealTimers();
      await running.close();
    }
  });
});

describe('the self-signed certificate', () => {
  it('stays the same until 30 days before its end, and is then renewed under the same CA', async () => {
    await using folder = await mkdtempDisposable(join(tmpdir(), 'webhook-tls-'));
    const caOut = join(folder.path, 'ca.crt');
    const source = await selfSignedSource(caOut, ['a.svc']);
    const ca = await readFile(caOut, 'utf8');
    const first = await source();
    expect(await source()).toEqual(first);
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 61 * 86_400_000 });
    try {
      const second = await source();
      expect(second.cert).not.toBe(first.cert);
      expect(await source()).toEqual(second);
      expect(await readFile(caOut, 'utf8')).toBe(ca);
    } finally {
      vi.useRealTimers();
    }
  });

  it('replaces an older CA file in one step, and says which option when it cannot be written', async () => {
    await using folder = await mkdtempDisposable(join(tmpdir(), 'webhook-tls-'));
    const caOut = join(folder.path, 'ca.crt');
    await writeFile(caOut, 'old');
    await selfSignedSource(caOut, []);
    expect(await readFile(caOut, 'utf8')).toMatch(/^-----BEGIN CERTIFICATE-----/);
    const nowhere = join(folder.path, 'no', 'ca.crt');
    await expect(selfSignedSource(nowhere, [])).rejects.toThrow(
      /--ca-out: .*no\/ca.crt cannot be written: ENOENT/,
    );
  });
});

describe('a CA written to what is no regular file', () => {
  it('goes through a pipe, and the pipe stays', async () => {
    await using folder = await mkdtempDisposable(join(tmpdir(), 'webhook-tls-'));
    const pipe = join(folder.path, 'ca.fifo');
    execFileSync('mkfifo', [pipe]);
    const [text] = await Promise.all([readFile(pipe, 'utf8'), selfSignedSource(pipe, [])]);
    expect(text).toMatch(/^-----BEGIN CERTIFICATE-----/);
    expect((await stat(pipe)).isFIFO()).toBe(true);
  });
});

describe('options that do not go together', () => {
  it.each<[string, Record<string, string | string[] | boolean>, RegExp]>([
    ['no certificate at all', {}, /--tls-cert is required.*--self-signed and --ca-out/],
    ['a certificate without its key', { tlsCert: '/x' }, /--tls-key is required/],
    ['self-signed without a place for the CA', { selfSigned: true }, /--ca-out is required/],
    ['two kinds of certificate', { selfSigned: true, caOut: '/x', tlsCert: '/x' }, /leave out --tls-cert/],
    [
      'a CA file for foreign certificates',
      { tlsCert: '/x', tlsKey: '/x', caOut: '/x' },
      /--ca-out is only for/,
    ],
    [
      'names for foreign certificates',
      { tlsCert: '/x', tlsKey: '/x', dnsName: ['a'] },
      /--dns-name is only for/,
    ],
    ['a Secret and files', { tlsSecret: 'a/b', tlsCert: '/x' }, /--tls-cert does not go together with/],
    ['a Secret and a CA file', { tlsSecret: 'a/b', caOut: '/x' }, /--ca-out does not go together with/],
    [
      'a Secret and self-signed',
      { tlsSecret: 'a/b', selfSigned: true },
      /--self-signed does not go together/,
    ],
    ['a Secret and no cluster', { tlsSecret: 'a/b' }, /--tls-secret needs an API server: .*--no-cluster/],
    [
      'a certificate that is to outlive its CA',
      { tlsSecret: 'a/b', noCluster: false, caLifetime: '1h', certLifetime: '2h' },
      /--cert-lifetime: 7200 s is longer than --ca-lifetime, 3600 s/,
    ],
    [
      'a certificate that is missing',
      { tlsCert: '/nowhere/c', tlsKey: '/nowhere/k' },
      /--tls-.*\/nowhere\/[ck]/,
    ],
    [
      'a name that is none',
      { selfSigned: true, caOut: '/nowhere/ca', dnsName: ['a b'] },
      /--dns-name: "a b"/,
    ],
  ])('are refused: %s', async (_what, flags, message) => {
    const started = startWebhook(webhookValues(flags), readableLog().log);
    const error = await started.catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(UsageError);
    expect(String(error)).toMatch(message);
  });
});

describe('the name of a Secret', () => {
  it.each(['cert', 'a/b/c', 'A/b', '/b', 'a/', 'a/..', `a/${'b'.repeat(300)}`])('is not %s', (tlsSecret) => {
    expect(() => webhookValues({ tlsSecret })).toThrow(/--tls-secret.*expected NAMESPACE\/NAME/);
  });

  it('is a namespace and a name in it', () => {
    const { tlsSecret } = webhookValues({ tlsSecret: 'my-system/the.cert' });
    expect(tlsSecret).toEqual({ namespace: 'my-system', name: 'the.cert' });
  });
});

describe('an address in use', () => {
  it('is an error that leaves nothing running', async () => {
    await using folder = await mkdtempDisposable(join(tmpdir(), 'webhook-tls-'));
    const flags = { selfSigned: true, caOut: join(folder.path, 'ca.crt') };
    const { log } = readableLog();
    const first = await startWebhook(webhookValues(flags), log);
    const listen = `127.0.0.1:${first.address.port}`;
    const adminListen = `127.0.0.1:${first.adminAddress.port}`;
    await expect(startWebhook(webhookValues({ ...flags, listen }), log)).rejects.toThrow(/EADDRINUSE/);
    await expect(startWebhook(webhookValues({ ...flags, adminListen }), log)).rejects.toThrow(
      /cannot listen on/,
    );
    await first.close();
  });
});
