import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';

const launcher = fileURLToPath(new URL('../../../cli/quorumbridge.mjs', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'qb-serve-'));
afterAll(() => rmSync(folder, { recursive: true }));
const occupied = createServer();

beforeEach(async () => {
  occupied.listen(0, '127.0.0.1');
  await once(occupied, 'listening');
});
afterEach(() => void occupied.close());

async function run(
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<{ code: number; lines: Record<string, unknown>[]; err: string }> {
  const child = spawn(process.execPath, [launcher, ...args], {
    cwd: folder,
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [out, err, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit') as Promise<[number]>,
  ]);
  const lines = out.split('\n').filter((line) => line !== '');
  return { code, err, lines: lines.map((line) => JSON.parse(line) as Record<string, unknown>) };
}

describe('a server that cannot start', () => {
  it.each(['proxy --backend=127.0.0.1:1', 'webhook --no-cluster --self-signed --ca-out=ca.crt'])(
    'logs the address it cannot have and exits 1: %s',
    async (command) => {
      const { port } = occupied.address() as AddressInfo;
      const address = `127.0.0.1:${port}`;
      const { code, lines } = await run([
        ...command.split(' '),
        '--listen=127.0.0.1:0',
        `--admin-listen=${address}`,
      ]);
      expect(lines.at(-1)).toMatchObject({ level: 'fatal', msg: 'could not start' });
      expect(JSON.stringify(lines.at(-1))).toContain(`cannot listen on ${address} for health and metrics`);
      expect(code).toBe(1);
    },
  );

  it('says which option is missing and exits 2', async () => {
    const { code, err } = await run(['webhook', '--no-cluster', '--tls-cert=/no/such/file']);
    expect(err).toMatch(/^quorumbridge webhook: option --tls-key is required: /);
    expect(code).toBe(2);
  });
});

describe('the first line of the log', () => {
  it('names what was given by other than default, its value and where it came from', async () => {
    const { port } = occupied.address() as AddressInfo;
    const { lines } = await run(['proxy', '--backend=[::1]:5673', '--listen=127.0.0.1:0'], {
      QUORUMBRIDGE_ADMIN_LISTEN: `127.0.0.1:${port}`,
    });
    expect(lines[0]).toMatchObject({ level: 'info', name: 'proxy', msg: 'starting', node: process.version });
    expect(lines[0]?.['options']).toEqual({
      backend: { value: { host: '::1', port: 5673 }, origin: 'flag' },
      listen: { value: [{ host: '127.0.0.1', port: 0 }], origin: 'flag' },
      'admin-listen': { value: { host: '127.0.0.1', port }, origin: 'environment' },
    });
  });
});
