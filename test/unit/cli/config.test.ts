import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runCommandLine } from '../../../cli/run.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'quorumbridge-config-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

async function check(file: string, ...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const path = join(folder, 'proxy.yaml');
  writeFileSync(path, file);
  const written = { out: '', err: '' };
  const sink = (key: 'out' | 'err'): Writable =>
    new Writable({
      write(chunk: Buffer, _encoding, done) {
        written[key] += chunk.toString().replaceAll(folder, '.');
        done();
      },
    });
  const io = { stdin: Readable.from([]), stdout: sink('out'), stderr: sink('err'), env: {} };
  const code = await runCommandLine(
    ['config', 'check', path, ...args],
    { config: () => import('../../../cli/config.ts') },
    io,
  );
  return { code, ...written };
}

describe('quorumbridge config check', () => {
  it('says that a file is valid, and what it gives', async () => {
    const { code, out, err } = await check('backend: 127.0.0.1:5673\nlisten: [localhost:5672]\n');
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(out).toBe(
      [
        './proxy.yaml is valid',
        '  backend: 127.0.0.1:5673 (key "backend" of ./proxy.yaml:1:1)',
        '  listen: localhost:5672 (key "listen" of ./proxy.yaml:2:1)',
        '',
      ].join('\n'),
    );
  });

  it('names every option that is wrong with its place', async () => {
    const { code, err } = await check('backend: here\nno-such: 1\nmax-connections: -1\n');
    expect(code).toBe(2);
    expect(err).toContain('key "backend" of ./proxy.yaml:1:1: "here" is not valid: expected HOST:PORT');
    expect(err).toContain('key "no-such" of ./proxy.yaml:2:1: no such option');
    expect(err).toContain('key "max-connections" of ./proxy.yaml:3:1: "-1" is not valid');
  });

  it('reads the files that the options name, and sees whether options go together', async () => {
    const rules = join(folder, 'rules.yaml');
    writeFileSync(rules, 'rules: 1\n');
    const { code, err } = await check(
      `backend: 127.0.0.1:5673\nrules: ${rules}\ntls-cert: ./no-such.crt\nresume-timeout: 5\n`,
    );
    expect(code).toBe(2);
    expect(err).toContain('option --tls-cert needs --tls-key');
    expect(err).toContain('./rules.yaml:1:');
    expect(err).toContain('option --resume-timeout needs --mode=pool');
  });

  it('takes options that the proxy has on its command line besides', async () => {
    expect((await check('mode: pool\n')).err).toContain('option --backend is required');
    const { code, out } = await check('mode: pool\n', '--set', 'backend=127.0.0.1:5673');
    expect(code).toBe(0);
    expect(out).toContain('  backend: 127.0.0.1:5673 (option --backend)\n');
    expect((await check('', '--set', 'backends=1')).err).toContain(
      "option --set: backends=1: 'quorumbridge proxy' has no option --backends",
    );
    expect((await check('', '--set', 'backend')).err).toContain('expected OPTION=VALUE');
  });
});
