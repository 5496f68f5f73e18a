import { writeFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Script } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { encodeOpen, encodeStartOk } from '../../../../amqp/connection.ts';
import { CONNECTION_STATES } from '../../../../proxy/admin/documents.ts';
import { PAGE_SCRIPT } from '../../../../proxy/admin/page-script.ts';
import { ask } from '../../../support/admin-client.ts';
import { Browser, findChromium } from '../../../support/chromium.ts';
import {
  connectPeer,
  HEADER,
  method,
  type Peer,
  ScriptedBroker,
  startTestProxy,
  tuneArguments,
} from '../../../support/peers.ts';

const { program, why } = await findChromium();

/** Where screenshots are kept, for eyes; unset: nowhere. */
const SHOTS = process.env['QUORUMBRIDGE_SCREENSHOTS'];

const HOSTILE = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>"'&amp;`;

/** Lets a client in, with a name of its choice and a transient queue, which the proxy rewrites. */
async function enter(
  broker: ScriptedBroker,
  port: number,
  name: string,
  user: string,
  vhost: string,
): Promise<{ client: Peer; upstream: Peer }> {
  const arriving = broker.next();
  const client = await connectPeer(port);
  client.write(HEADER);
  const upstream = await arriving;
  await upstream.take(8);
  const response = Buffer.from(`\0${user}\0secret-of-${user}`);
  const startOk = encodeStartOk(
    { connection_name: name, product: name },
    { mechanism: 'PLAIN', response, locale: 'en_US' },
  );
  for (const [sender, receiver, octets] of [
    [upstream, client, method(0, 10, 10, Buffer.from('start'))],
    [client, upstream, startOk],
    [upstream, client, method(0, 10, 30, tuneArguments(131_072))],
    // A frame_max that RabbitMQ 4 refuses: the proxy is needed.
    [client, upstream, method(0, 10, 31, tuneArguments(4096))],
    [client, upstream, encodeOpen(vhost)],
    [upstream, client, method(0, 10, 41, Buffer.of(0))],
  ] as const) {
    sender.write(octets);
    await receiver.frame();
  }
  return { client, upstream };
}

describe('the page at /', () => {
  it('is one document without anything from elsewhere, and may do nothing but ask its own server', async () => {
    await using proxy = await startTestProxy({ backend: '127.0.0.1:1' });
    const { status, headers, text } = await ask(proxy, '/');
    expect([status, headers.get('content-type')]).toEqual([200, 'text/html; charset=utf-8']);
    expect(headers.get('content-security-policy')).toMatch(
      /^default-src 'none'; style-src 'sha256-[^']+'; script-src 'sha256-[^']+'; connect-src 'self'; /,
    );
    expect(headers.get('x-content-type-options')).toBe('nosniff');
    expect(text).not.toMatch(/https?:|\/\/[a-z]|<link rel="(?!icon" href="data:,")|@import|src=/);
    expect(text).not.toMatch(/ on\w+=| style=/);
  });

  it('has a script that is one, and puts nothing of clients into markup', () => {
    expect(() => new Script(PAGE_SCRIPT)).not.toThrow();
    expect(PAGE_SCRIPT).not.toMatch(/innerHTML|outerHTML|insertAdjacent|document\.write|eval|Function\(/);
  });

  it('offers the states that connections have', async () => {
    await using proxy = await startTestProxy({ backend: '127.0.0.1:1' });
    const { text } = await ask(proxy, '/');
    const offered = [...text.matchAll(/<option>(\w+)<\/option>/g)].map(([, state]) => state);
    expect(offered).toEqual(['any', ...CONNECTION_STATES.filter((state) => state !== 'closed')]);
  });
});

describe.skipIf(why !== '')(
  `the page at / in Chromium${why === '' ? '' : ` (${why})`}`,
  { timeout: 120_000 },
  () => {
    it('shows what happens while it happens, and hostile names as text', async () => {
      await using broker = await new ScriptedBroker().start();
      await using proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}` });
      await using browser = await Browser.start(program);
      await browser.open(`http://127.0.0.1:${proxy.proxy.adminAddress.port}/`);
      await browser.until(`document.getElementById('live').textContent === 'live'`);
      const { client } = await enter(broker, proxy.port, HOSTILE, 'mallory', HOSTILE.slice(0, 100));
      await enter(broker, proxy.port, 'nova-compute:1', 'nova', '/nova');
      await browser.until(`document.getElementById('connections').rows.length === 2`);
      const cell = (row: number, at: number): Promise<string> =>
        browser.value(`document.getElementById('connections').rows[${row}].cells[${at}].textContent`);
      expect([await cell(0, 0), await cell(0, 2), await cell(0, 3), await cell(0, 4)]).toEqual([
        '2',
        'nova-compute:1',
        'nova',
        '/nova',
      ]);
      expect([await cell(1, 2), await cell(1, 3)]).toEqual([HOSTILE, 'mallory']);
      await browser.until(`document.getElementById('needing').textContent.includes('<img src=x')`);
      expect(await browser.value('document.title')).toBe('Quorumbridge proxy');
      expect(await browser.value('document.querySelectorAll("img, tbody script").length')).toBe(0);

      await browser.value(
        `(() => { const box = document.querySelector('#filter [name=user]'); box.value = 'nova'; box.dispatchEvent(new Event('input', { bubbles: true })); })()`,
      );
      await browser.until(`document.getElementById('range').textContent === '1–1 of 1 (2 in all)'`);
      await browser.value(
        `(() => { const box = document.querySelector('#filter [name=user]'); box.value = ''; box.dispatchEvent(new Event('input', { bubbles: true })); })()`,
      );
      await browser.until(`document.getElementById('connections').rows.length === 2`);
      await browser.value(`document.querySelector('[data-sort=id]').click()`);
      await browser.until(`document.getElementById('connections').rows[0].cells[0].textContent === '1'`);

      await browser.value(`document.getElementById('pausing').value = '/nova'`);
      await browser.value(`document.querySelector('#pause button').click()`);
      await browser.until(`document.getElementById('paused').textContent.includes('/nova')`);
      await browser.until(`document.getElementById('connections').textContent.includes('open, paused')`);
      await browser.value(`document.querySelector('#paused button').click()`);
      await browser.until(`document.getElementById('pauses').hidden`);

      await browser.value(`document.querySelector('#connections tr[data-key="1"] button').click()`);
      await client.until('connection.close', (peer) => peer.received.length > 0);
      expect(browser.complaints).toEqual([]);
    });

    it('asks for the token where there is one, and says so when the proxy is gone', async () => {
      const folder = mkdtempSync(join(tmpdir(), 'page-'));
      writeFileSync(join(folder, 'token'), 'a-token-of-the-page\n');
      await using proxy = await startTestProxy({
        backend: '127.0.0.1:1',
        adminTokenFile: join(folder, 'token'),
      });
      await using browser = await Browser.start(program);
      await browser.open(`http://127.0.0.1:${proxy.proxy.adminAddress.port}/`);
      await browser.until(`document.getElementById('login').hidden === false`);
      await browser.value(`document.getElementById('token').value = 'a-token-of-the-page'`);
      await browser.value(`document.querySelector('#login button').click()`);
      await browser.until(`document.getElementById('live').textContent === 'live'`);
      expect(await browser.value('document.getElementById("login").hidden')).toBe(true);
      await proxy.proxy.close();
      await browser.until(`document.getElementById('live').textContent === 'no connection to the proxy'`);
      rmSync(folder, { recursive: true });
    });

    it.each([
      [1280, 'light'],
      [1280, 'dark'],
      [375, 'light'],
      [375, 'dark'],
    ] as const)('is readable at a width of %i in %s', async (width, scheme) => {
      await using broker = await new ScriptedBroker().start();
      await using proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}` });
      await using browser = await Browser.start(program);
      await browser.look(width, 900, scheme);
      for (const name of ['nova-compute:12:4f1c', 'neutron-server', 'x'.repeat(300)])
        await enter(broker, proxy.port, name, 'openstack', '/a-long-virtual-host-of-openstack');
      await browser.open(`http://127.0.0.1:${proxy.proxy.adminAddress.port}/`);
      await browser.until(`document.getElementById('connections').rows.length === 3`);
      await browser.until(`document.getElementById('cards').textContent.includes('/s')`);
      // Nothing is cut off at the side.
      expect(await browser.value('document.documentElement.scrollWidth')).toBeLessThanOrEqual(width);
      const contrasts = await browser.value<number[]>(CONTRASTS);
      expect(contrasts.length).toBeGreaterThan(10);
      expect(Math.min(...contrasts)).toBeGreaterThanOrEqual(4.5);
      expect(browser.complaints).toEqual([]);
      if (SHOTS !== undefined)
        writeFileSync(join(SHOTS, `page-${width}-${scheme}.png`), await browser.screenshot());
    });
  },
);

/** The contrasts of all texts that are shown to what is behind them (WCAG 2.2, section 1.4.3), in the page. */
const CONTRASTS = `(() => {
  const parts = (color) => color.match(/[\\d.]+/g).map(Number);
  const luminance = (color) => {
    const [r, g, b] = parts(color).slice(0, 3).map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at !== null; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (parts(color)[3] !== 0) return color;
    }
    return 'rgb(255, 255, 255)';
  };
  return [...document.querySelectorAll('main *, header *')]
    .filter((one) => one.offsetParent !== null && !one.disabled && [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim() !== ''))
    .map((one) => {
      const [a, b] = [luminance(getComputedStyle(one).color), luminance(ground(one))];
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    });
})()`;
