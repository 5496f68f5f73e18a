import { expect, it } from 'vitest';
import { StrangerLines } from '../../../proxy/stranger-lines.ts';
import { connectPeer, ScriptedBroker, startTestProxy } from '../../support/peers.ts';

it('lets ten lines a second through for each code, and says how many it has left out', () => {
  const lines = new StrangerLines();
  const taken = (code: 'CLIENT_TLS' | 'CLIENT_PROTOCOL_HEADER', now: number) => lines.take(code, now);
  expect(Array.from({ length: 12 }, () => taken('CLIENT_TLS', 0))).toEqual([
    ...Array.from({ length: 10 }, () => 0),
    undefined,
    undefined,
  ]);
  expect(taken('CLIENT_PROTOCOL_HEADER', 0)).toBe(0);
  expect(taken('CLIENT_TLS', 999)).toBeUndefined();
  expect(taken('CLIENT_TLS', 1000)).toBe(3);
  expect(taken('CLIENT_TLS', 1001)).toBe(0);
});

it('a flood of noise is no flood of lines, and is counted whole', async () => {
  await using broker = await new ScriptedBroker().start();
  await using proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}` });
  const noisy = await Promise.all(Array.from({ length: 60 }, () => connectPeer(proxy.port)));
  for (const { socket } of noisy) socket.write('GET / HTTP/1.1\r\n\r\n');
  const counted = () => proxy.metric('quorumbridge_proxy_errors_total');
  await expect.poll(counted).toContain('{code="CLIENT_PROTOCOL_HEADER",class="permanent"} 60');
  const lines = proxy.log().filter(({ code }) => code === 'CLIENT_PROTOCOL_HEADER');
  expect(lines.length).toBeGreaterThanOrEqual(10);
  expect(lines.length).toBeLessThan(60);
  for (const { socket } of noisy) socket.destroy();
});
