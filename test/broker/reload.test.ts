// A reload as an operator asks for it: SIGHUP to the process, a file that changes, the admin port; real clients go on.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ChannelModel, type ConfirmChannel, connect } from 'amqplib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { type ProxyProcess, startProxyProcess } from '../support/service.ts';

const folder = mkdtempSync(join(tmpdir(), 'quorumbridge-reload-'));
const config = join(folder, 'proxy.yaml');
const rules = join(folder, 'rules.yaml');

afterAll(() => rmSync(folder, { recursive: true }));

/** Publishes with confirms, one after the other, until it is told to end. */
function publishing(channel: ConfirmChannel, queue: string) {
  const state = { confirmed: 0, ends: false };
  const done = (async () => {
    while (!state.ends) {
      channel.sendToQueue(queue, Buffer.from(String(state.confirmed)), { persistent: true });
      await channel.waitForConfirms();
      state.confirmed++;
    }
  })();
  done.catch(() => {}); // whoever awaits the end sees it
  return {
    get confirmed() {
      return state.confirmed;
    },
    async end() {
      state.ends = true;
      await done;
    },
  };
}

await describeBrokers(['4.3'], (version) => {
  let broker: Broker;
  beforeAll(async () => {
    broker = await startBroker(version);
  });
  afterAll(() => broker?.stop());

  describe.each(['transparent', 'pool'])('mode %s', (mode) => {
    let proxy: ProxyProcess;
    let model: ChannelModel;

    beforeAll(async () => {
      writeFileSync(rules, 'preset: generic\n');
      writeFileSync(config, `mode: ${mode}\nrules: ${rules}\nreload-interval: 200ms\n`);
      proxy = await startProxyProcess(broker.port, [`--config=${config}`]);
      model = await connect(`amqp://127.0.0.1:${proxy.port}`);
    });
    afterAll(() => proxy?.stop());

    const logged = (text: string) => proxy.log().split(text).length - 1;
    const reloads = async () => {
      const text = await (await fetch(`${proxy.adminUrl}/metrics`)).text();
      return Number(/config_reloads_total\{result="applied"\} (\d+)/.exec(text)?.[1]);
    };

    it('lets a client publish on while everything is reloaded, by each of the three ways', async () => {
      const channel = await model.createConfirmChannel();
      const queue = `reload-${mode}`;
      await channel.assertQueue(queue, { durable: true });
      const publisher = publishing(channel, queue);
      const before = await reloads();
      writeFileSync(config, `mode: ${mode}\nrules: ${rules}\nreload-interval: 0\nmax-connections: 50\n`);
      await expect.poll(reloads, { timeout: 20_000 }).toBe(before + 1);
      writeFileSync(config, `mode: ${mode}\nrules: ${rules}\nreload-interval: 0\nmax-connections: 1\n`);
      process.kill(proxy.pid, 'SIGHUP');
      await expect.poll(reloads, { timeout: 20_000 }).toBe(before + 2);
      await expect(connect(`amqp://127.0.0.1:${proxy.port}`)).rejects.toThrow('ConnectionClose');
      const at = publisher.confirmed;
      writeFileSync(config, `mode: ${mode}\nrules: ${rules}\nreload-interval: 0\n`);
      expect((await fetch(`${proxy.adminUrl}/reload`, { method: 'POST' })).status).toBe(200);
      expect(await reloads()).toBe(before + 3);
      await expect.poll(() => publisher.confirmed, { timeout: 20_000 }).toBeGreaterThan(at);
      await publisher.end();
      const { messageCount } = await channel.checkQueue(queue);
      expect(messageCount).toBe(publisher.confirmed);
      await (await connect(`amqp://127.0.0.1:${proxy.port}`)).close();
    });

    it('gives clients that come the rules that are there now', async () => {
      const typeOf = async (queue: string) => {
        const other = await connect(`amqp://127.0.0.1:${proxy.port}`);
        const channel = await other.createChannel();
        await channel.assertQueue(queue, { durable: false });
        await other.close();
        const listed = await broker.ctl('list_queues', 'name', 'type', '--silent');
        return new RegExp(`^${queue}\\s+(\\S+)`, 'm').exec(listed)?.[1];
      };
      expect(await typeOf(`before-${mode}`)).toMatch(/quorum/);
      writeFileSync(rules, 'rules:\n- name: all\n  match: {queue: "*"}\n  action: classic-durable\n');
      process.kill(proxy.pid, 'SIGHUP');
      await expect.poll(() => logged('"option":"rules"')).toBe(1);
      expect(await typeOf(`after-${mode}`)).toMatch(/classic/);
    });

    it('goes on with what it has where the file is broken, says why, and still ends in good order', async () => {
      writeFileSync(config, `mode: ${mode}\nmax-connections: lots\n`);
      process.kill(proxy.pid, 'SIGHUP');
      await expect.poll(() => logged('the configuration is not valid')).toBe(1);
      expect(proxy.log()).toContain('max-connections');
      const channel = await model.createChannel();
      await channel.checkQueue(`reload-${mode}`);
      await model.close();
      expect(await proxy.stop()).toBe(0);
    });
  });
});
