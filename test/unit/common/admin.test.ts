import { once } from 'node:events';
import { Agent, request } from 'node:http';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { type Admin, type AdminSettings, startAdmin } from '../../../common/admin.ts';
import { createLogger } from '../../../common/log.ts';
import { createMetrics } from '../../../common/metrics.ts';

const log = createLogger({ name: 'test', level: 'silent' });
const running: Admin[] = [];

afterEach(async () => {
  await Promise.all(running.splice(0).map((admin) => admin.close()));
});

async function start(settings: Partial<AdminSettings> = {}): Promise<Admin> {
  const admin = await startAdmin({
    listen: { host: '127.0.0.1', port: 0 },
    log,
    metrics: createMetrics(),
    livez: () => ({ ok: true, reasons: [] }),
    readyz: () => ({ ok: true, reasons: [] }),
    ...settings,
  });
  running.push(admin);
  return admin;
}

async function get(admin: Admin, path: string, init?: RequestInit): Promise<[number, string]> {
  const response = await fetch(`http://127.0.0.1:${admin.address.port}${path}`, init);
  return [response.status, await response.text()];
}

describe('startAdmin', () => {
  it('answers 200 when a check is ok and 503 with its reasons when not', async () => {
    let ok = true;
    const admin = await start({
      readyz: async () => ({ ok, reasons: ok ? [] : ['backend 127.0.0.1:5673 refused', 'draining'] }),
    });
    expect(await get(admin, '/readyz')).toEqual([200, 'ok\n']);
    ok = false;
    expect(await get(admin, '/readyz?verbose')).toEqual([
      503,
      'not ok\nbackend 127.0.0.1:5673 refused\ndraining\n',
    ]);
    expect(await get(admin, '/livez')).toEqual([200, 'ok\n']);
  });

  it('answers 503 when a check throws', async () => {
    const admin = await start({ livez: () => Promise.reject(new Error('boom')) });
    expect(await get(admin, '/livez')).toEqual([503, 'not ok\nthe check itself failed: boom\n']);
  });

  it('serves metrics in the format of Prometheus, and 500 without detail when one fails', async () => {
    const metrics = createMetrics();
    metrics.gauge('some_gauge', 'Some.', () => 7);
    const admin = await start({ metrics });
    const response = await fetch(`http://127.0.0.1:${admin.address.port}/metrics`);
    expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
    expect(await response.text()).toContain('\nsome_gauge 7\n');
    metrics.gauge('broken', 'Broken.', () => {
      throw new Error('inner detail');
    });
    expect(await get(admin, '/metrics')).toEqual([500, 'metrics could not be collected; the log says why\n']);
  });

  it('serves JSON as it is at that moment, and 500 without detail when it fails', async () => {
    let count = 0;
    const broken = (): never => {
      throw new Error('inner detail');
    };
    const admin = await start({ json: { '/clients': () => ({ count: ++count }), '/broken': broken } });
    const url = `http://127.0.0.1:${admin.address.port}/clients`;
    const response = await fetch(url);
    expect(response.headers.get('content-type')).toBe('application/json');
    expect(await response.text()).toBe('{"count":1}\n');
    expect(await get(admin, '/clients?pretty')).toEqual([200, '{"count":2}\n']);
    expect(await get(admin, '/clients', { method: 'HEAD' })).toEqual([200, '']);
    expect((await get(admin, '/clients', { method: 'DELETE' }))[0]).toBe(405);
    expect(await get(admin, '/broken')).toEqual([500, '/broken could not be answered; the log says why\n']);
    expect(await get(admin, '/client')).toEqual([
      404,
      'not found: there are /livez, /readyz, /metrics, /clients and /broken\n',
    ]);
  });

  it('answers 404 elsewhere, 405 to other methods, and HEAD without a body', async () => {
    const admin = await start();
    expect(await get(admin, '/')).toEqual([404, 'not found: there are /livez, /readyz and /metrics\n']);
    expect((await get(admin, '/constructor'))[0]).toBe(404);
    expect((await get(admin, '/livez', { method: 'POST', body: 'x' }))[0]).toBe(405);
    expect(await get(admin, '/livez', { method: 'HEAD' })).toEqual([200, '']);
  });

  it('ends on close although a client keeps its connection alive', async () => {
    const admin = await start();
    const agent = new Agent({ keepAlive: true });
    const { port } = admin.address;
    const [response] = (await once(
      request({ port, host: '127.0.0.1', path: '/livez', agent }).end(),
      'response',
    )) as [NodeJS.ReadableStream];
    response.resume();
    await once(response, 'end');
    const before = performance.now();
    await admin.close();
    running.length = 0;
    expect(performance.now() - before).toBeLessThan(500);
    agent.destroy();
    await expect(get(admin, '/livez')).rejects.toThrow('fetch failed');
  });

  it('ends on close although an answer never comes', async () => {
    const admin = await start({ livez: () => new Promise(() => {}) });
    const hanging = get(admin, '/livez').catch(() => 'cut off');
    await new Promise((resolve) => setTimeout(resolve, 50));
    await admin.close();
    running.length = 0;
    expect(await hanging).toBe('cut off');
  });

  it('names the address it cannot have', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;
    await expect(start({ listen: { host: '127.0.0.1', port } })).rejects.toThrow(
      `cannot listen on 127.0.0.1:${port} for health and metrics`,
    );
    other.close();
  });
});
