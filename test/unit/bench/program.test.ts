// `npm run bench` as a program: what it says, what it leaves behind.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Certificate } from '../../../bench/certificate.ts';
import { familyOf } from '../../../bench/proc.ts';
import type { Results } from '../../../bench/results.ts';
import { anyCommand } from '../../../bench/targets.ts';
import { HOME } from '../../support/processes.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'qb-bench-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A forwarder that knows nothing of AMQP, as a command. */
const FORWARDER = [
  `${process.execPath} -e "net.createServer((near) => near.pipe(net.connect({upstream}, '127.0.0.1')).pipe(near)`,
  `.on('error', () => {})).listen({listen}, '127.0.0.1')"`,
].join('');

/** The same that speaks TLS, too. */
const TLS_FORWARDER = [
  `${process.execPath} -e "const on = (near) => near.pipe(net.connect({upstream}, '127.0.0.1')).pipe(near)`,
  `.on('error', () => {}); net.createServer(on).listen({listen}, '127.0.0.1');`,
  `const { readFileSync } = process.getBuiltinModule('fs');`,
  `tls.createServer({ cert: readFileSync('{cert}'), key: readFileSync('{key}') }, on).listen({listen-tls}, '127.0.0.1')"`,
].join('');

/** Files that nobody reads. */
const CERTIFICATE: Certificate = { ca: '', cert: 'cert.pem', key: 'key.pem', both: 'both.pem' };

function start(...args: string[]) {
  const env = { ...process.env, TMPDIR: folder };
  const child = spawn(process.execPath, ['bench/main.ts', ...args], { cwd: HOME, env });
  const said = { out: '', err: '' };
  child.stdout.on('data', (chunk: Buffer) => (said.out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (said.err += chunk.toString()));
  const ended = once(child, 'close').then(([code]) => ({ ...said, code: code as number | null }));
  return { child, said, ended };
}

/** Whether a process of the number is there. */
function isThere(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

describe('npm run bench', () => {
  it('says what is wrong with its command line, and how to use it', async () => {
    const { code, err } = await start('--case=none').ended;
    expect(code).toBe(2);
    expect(err).toContain('option --case: "none" is none of publish-16');
    expect(err).toContain('npm run bench [-- OPTIONS]');
  });

  it('measures a proxy that is given as a command, and writes the figures', async () => {
    const file = join(folder, 'figures.json');
    const args = ['--quick', '--rounds=1', '--case=publish-1k', '--target=direct', '--target=plain'];
    const { code, out, err } = await start(...args, `--json=${file}`, `plain=${FORWARDER}`).ended;
    expect([err, code]).toEqual(['', 0]);
    expect(out).toMatch(/^publish 1 KiB +[\d,]+\/s +[\d.]+ µs$/m);
    const { cases, missing } = JSON.parse(readFileSync(file, 'utf8')) as Results;
    expect(missing).toEqual({});
    expect(cases['publish-1k']!['plain']).toHaveLength(1);
    expect(cases['publish-1k']!['plain']![0]!.cpu).toBeGreaterThan(0);
  });

  it('measures one by TLS that has a port for it, and no other', async () => {
    const file = join(folder, 'by-tls.json');
    const args = ['--rounds=1', '--case=cycle-tls', '--target=plain', '--target=secure', `--json=${file}`];
    const { code, err } = await start(...args, `plain=${FORWARDER}`, `secure=${TLS_FORWARDER}`).ended;
    expect([err, code]).toEqual(['', 0]);
    const { cases } = JSON.parse(readFileSync(file, 'utf8')) as Results;
    expect(Object.keys(cases['cycle-tls']!)).toEqual(['secure']);
  });

  it('ends with the reason when a proxy does not start', async () => {
    const command = 'broken=sh -c "echo it is broken; exit 3" {listen} {upstream}';
    const { code, err } = await start('--case=publish-1k', '--target=broken', command).ended;
    expect(code).toBe(1);
    expect(err).toMatch(
      /^The benchmark failed: broken does not listen on port \d+: ended \(3\)\nit is broken/,
    );
  });

  it('leaves nothing behind when it is interrupted', async () => {
    const { child, said, ended } = start('--case=paced', '--target=plain', `plain=${FORWARDER}`);
    while (!said.out.includes('plain')) await once(child.stdout, 'data');
    const family = (): number[] => familyOf(child.pid!);
    await expect.poll(() => family().length, { timeout: 20_000 }).toBe(4); // itself, load, sink, forwarder
    const there = family();
    child.kill('SIGINT');
    expect((await ended).code).toBe(130);
    await expect.poll(() => there.filter(isThere), { timeout: 20_000 }).toEqual([]);
    expect(readdirSync(folder).filter((name) => name.startsWith('quorumbridge-bench-'))).toEqual([]);
  });
});

describe('a target that is a command', () => {
  it('listens when it is started, and is gone when it is disposed of', async () => {
    const target = await anyCommand('plain', FORWARDER, CERTIFICATE).start(9, false);
    expect([isThere(target.pid!), target.tlsPort]).toEqual([true, undefined]);
    const socket = net.connect(target.port, '127.0.0.1');
    await once(socket, 'connect');
    socket.destroy();
    await target[Symbol.asyncDispose]();
    expect(isThere(target.pid!)).toBe(false);
  });
});
