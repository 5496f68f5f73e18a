import { spawn } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { HOME } from '../support/processes.ts';
import { fetchBrokers } from '../support/broker.ts';
import { proxyContainer } from './admission.ts';
import type { Narrator } from './narrator.ts';
import { Scenario } from './scenario.ts';

/** Hears the demo's lines; nothing is printed. */
function listener(heard: string[]): Narrator {
  return {
    progress: (line) => void heard.push(line),
    step: (id, title) => void heard.push(`${id}. ${title}`),
    say: (line) => void heard.push(line),
    diff: (before, after) => void heard.push(before, after),
  };
}

let why = '';
try {
  await fetchBrokers(['3.10', '4.3']);
} catch (error) {
  why = ` (${(error as Error).message.replaceAll(/\s+/g, ' ')})`;
}

describe.skipIf(why !== '')(`npm run demo${why}`, () => {
  const heard: string[] = [];
  const scenario = new Scenario(listener(heard));
  beforeAll(async () => {
    await scenario.run({});
  });
  afterAll(async () => {
    await scenario.end();
  });

  it('a: a legacy client works on RabbitMQ 3.10', () => {
    expect(scenario.facts.direct310).toEqual({ sent: 500, confirmed: 500, received: 500, lost: 0 });
  });

  it("a: the same client gets RabbitMQ 4.3's own 541", () => {
    expect(scenario.facts.refusal).toContain('541 (INTERNAL-ERROR)');
    expect(scenario.facts.refusal).toContain('Feature `transient_nonexcl_queues` is deprecated');
  });

  it('b: the webhook moves RabbitMQ to the loopback address and puts the proxy in front', () => {
    const { original, injected } = scenario.facts;
    expect(proxyContainer(original!)).toBeUndefined();
    expect(proxyContainer(injected!)?.args).toContain('--backend=127.0.0.1:5673');
    expect(injected?.spec.rabbitmq?.advancedConfig).toContain('{tcp_listeners,[{"127.0.0.1",5673}]}');
    expect(heard.some((line) => line.includes('amqp-proxy'))).toBe(true);
  });

  it('c: the proxy runs with every injected argument, ports and paths mapped and nothing else', () => {
    const mapped = new Map(scenario.facts.mapped);
    const injected = proxyContainer(scenario.facts.injected!)?.args ?? [];
    expect([...mapped.keys()].every((arg) => injected.includes(arg))).toBe(true);
    expect([...mapped.keys()].map((arg) => arg.split('=')[0]).toSorted(byText)).toEqual([
      '--admin-listen',
      '--backend',
      '--listen',
      '--listen',
      '--tls-cert',
      '--tls-key',
    ]);
  });

  it('d: the same client loses nothing through the proxy', () => {
    expect(scenario.facts.proxied).toEqual({ sent: 500, confirmed: 500, received: 500, lost: 0 });
  });

  it('d: every queue is a durable quorum queue, every exchange durable', () => {
    const queues = scenario.facts.queues ?? [];
    expect(queues.map(({ type, durable }) => ({ type, durable }))).toEqual(
      Array.from({ length: 4 }, () => ({ type: 'quorum', durable: true })),
    );
    const lifetimes = queues.map((queue) => queue.arguments['x-expires']);
    expect(lifetimes).toEqual([undefined, undefined, 1_800_000, 1_800_000]);
    expect(scenario.facts.exchanges?.map(({ durable }) => durable)).toEqual([true, true]);
  });

  it('e: clients-reconfigured removes the container and restores the configuration', () => {
    const { original, removed } = scenario.facts;
    expect(proxyContainer(removed!)).toBeUndefined();
    expect(removed?.spec.rabbitmq).toEqual(original?.spec.rabbitmq);
  });

  it('reports each step as shown', () => {
    expect(scenario.rows.map(({ id, result }) => `${id} ${result}`)).toEqual(
      ['0', 'a', 'a', 'b', 'c', 'c', 'd', 'd', 'e'].map((id) => `${id} shown`),
    );
  });
});

describe('the demo as a program', () => {
  it('explains a broker URL that is none, and fails', async () => {
    const { code, text } = await demo([], { QUORUMBRIDGE_BROKER_URL: 'localhost 5672' });
    expect(code).toBe(1);
    expect(text).toContain('step 0 (The parts) failed: QUORUMBRIDGE_BROKER_URL is not a URL');
  });

  it('refuses an unknown option with its help', async () => {
    const { code, text } = await demo(['--kep'], {});
    expect(code).toBe(2);
    expect(text).toContain("Unknown option '--kep'");
    expect(text).toContain('--keep');
  });
});

function byText(a = '', b = ''): number {
  return a < b ? -1 : Number(a > b);
}

function demo(args: string[], env: Record<string, string>): Promise<{ code: number | null; text: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['test/e2e/demo.ts', ...args], {
      cwd: HOME,
      env: { ...process.env, ...env },
    });
    let text = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => (text += chunk.toString()));
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, text }));
  });
}
