import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { createGuard, isLoopback } from '../../../common/admin-guard.ts';
import type { AdminRoute } from '../../../common/admin-route.ts';
import { type Admin, startAdmin } from '../../../common/admin.ts';
import { createLogger } from '../../../common/log.ts';
import { createMetrics } from '../../../common/metrics.ts';

const log = createLogger({ name: 'test', level: 'silent' });
const folder = mkdtempSync(join(tmpdir(), 'admin-guard-'));
const running: Admin[] = [];
const TOKEN = '0123456789abcdef0123';

afterEach(async () => {
  await Promise.all(running.splice(0).map((admin) => admin.close()));
});
afterAll(() => rmSync(folder, { recursive: true }));

const routes: AdminRoute[] = [
  {
    method: 'POST',
    path: '/things/{name}',
    handle: ({ params }) => ({ status: 200, body: params['name']! }),
  },
  { method: 'GET', path: '/page', open: true, handle: () => ({ status: 200, body: 'page' }) },
];

/** Starts a guarded server; tells what it answers to POST /things/a%2Fb with these headers: `STATUS text`. */
async function start(
  host: string,
  token?: string,
): Promise<{
  file: string;
  post: (headers?: Record<string, string>, path?: string) => Promise<string>;
  get: (path: string) => Promise<string>;
}> {
  const file = join(folder, `token-${running.length}`);
  if (token !== undefined) writeFileSync(file, token);
  const admin = await startAdmin({
    listen: { host, port: 0 },
    log,
    metrics: createMetrics(),
    livez: () => ({ ok: true, reasons: [] }),
    readyz: () => ({ ok: true, reasons: [] }),
    json: { '/clients': () => [] },
    routes,
    guard: createGuard(token === undefined ? undefined : file, log),
  });
  running.push(admin);
  const { port } = admin.address;
  const ask = async (method: string, path: string, headers: Record<string, string>): Promise<string> => {
    const asked = request({ host: '127.0.0.1', port, method, path, headers }).end();
    const [response] = (await once(asked, 'response')) as [IncomingMessage];
    return `${response.statusCode} ${await text(response)}`;
  };
  return {
    file,
    post: (headers = {}, path = '/things/a%2Fb') => ask('POST', path, headers),
    get: (path) => ask('GET', path, {}),
  };
}

describe('the admin API without a token', () => {
  it('is open on loopback, by address or as localhost', async () => {
    const { post } = await start('127.0.0.1');
    expect(await post()).toBe('200 a/b');
    expect(await post({ host: 'localhost:15695' })).toBe('200 a/b');
    expect(await post({ host: '[::1]:15695' })).toBe('200 a/b');
  });

  it('is closed to pages of other servers that a browser shows on this machine', async () => {
    const { post } = await start('127.0.0.1');
    expect(await post({ origin: 'http://evil.example' })).toMatch(/^403 refused: the request is of a page/);
    expect(await post({ origin: 'null' })).toMatch(/^403 /);
    expect(await post({ 'sec-fetch-site': 'cross-site' })).toMatch(/^403 /);
    expect(await post({ 'sec-fetch-site': 'same-site' })).toMatch(/^403 /);
    expect(await post({ host: 'evil.example', origin: 'http://evil.example' })).toMatch(
      /^403 refused: without --admin-token-file ask by IP address or as localhost/,
    );
    expect(await post({ host: '127.0.0.1:1', origin: 'http://127.0.0.1:1' })).toBe('200 a/b');
  });

  it('is closed on other addresses, but for what everybody may ask', async () => {
    const { post, get } = await start('0.0.0.0');
    expect(await post()).toBe(
      '403 refused: --admin-listen is not a loopback address, and there is no --admin-token-file\n',
    );
    expect(await post({ authorization: `Bearer ${TOKEN}` })).toMatch(/^403 /);
    for (const path of ['/livez', '/readyz', '/metrics', '/clients', '/page'])
      expect(await get(path)).toMatch(/^200 /);
  });
});

describe('the admin API with a token', () => {
  it.each(['127.0.0.1', '0.0.0.0'])('on %s wants it, and says so', async (host) => {
    const { post, get } = await start(host, `${TOKEN}\n`);
    expect(await post()).toBe('401 a bearer token is needed (--admin-token-file)\n');
    expect(await post({ authorization: `Basic ${TOKEN}` })).toMatch(/^401 a bearer token is needed/);
    expect(await post({ authorization: `Bearer ${TOKEN}4` })).toMatch(
      /^401 the bearer token is not the right one/,
    );
    expect(await post({ authorization: `Bearer ${TOKEN}` })).toBe('200 a/b');
    expect(await post({ authorization: `bearer  ${TOKEN}`, host: 'proxy.example' })).toBe('200 a/b');
    expect(await post({ authorization: `Bearer ${TOKEN}`, origin: 'https://evil.example' })).toMatch(/^403 /);
    expect(await get('/clients')).toBe('200 []\n');
  });

  it('takes the one that is in the file now, and none while there is none', async () => {
    const { file, post } = await start('127.0.0.1', TOKEN);
    writeFileSync(file, 'another-token-of-ours');
    expect(await post({ authorization: `Bearer ${TOKEN}` })).toMatch(/^401 /);
    expect(await post({ authorization: 'Bearer another-token-of-ours' })).toBe('200 a/b');
    rmSync(file);
    expect(await post({ authorization: 'Bearer another-token-of-ours' })).toBe(
      '503 the token cannot be read; the log says why\n',
    );
  });

  it.each([
    ['short', 'secret', 'has to hold one token of 16 characters at least'],
    ['empty', '', 'has to hold one token'],
    ['two', 'one-token-of-ours another-token', 'has to hold one token'],
  ])('does not start with one that is no token: %s', (name, token, expected) => {
    const file = join(folder, name);
    writeFileSync(file, token);
    expect(() => createGuard(file, log)).toThrow(expected);
    expect(() => createGuard(join(folder, 'none'), log)).toThrow('option --admin-token-file: ENOENT');
  });
});

describe('paths', () => {
  it('with what is not percent-encoded are refused', async () => {
    const { post } = await start('127.0.0.1');
    expect(await post({}, '/things/%zz')).toBe('400 /things/%zz: not percent-encoded UTF-8\n');
    expect(await post({}, '/things/a/b')).toMatch(
      /^404 not found: there are .*\/things\/\{name\} and \/page\n$/,
    );
  });
});

it.each([
  ['127.0.0.1', true],
  ['127.9.9.9', true],
  ['::1', true],
  ['::ffff:127.0.0.1', true],
  ['0.0.0.0', false],
  ['::', false],
  ['10.127.0.1', false],
])('isLoopback(%s) is %s', (address, loopback) => {
  expect(isLoopback(address)).toBe(loopback);
});
