import { beforeAll, describe, expect, it } from 'vitest';
import { fetchBrokers } from '../support/broker.ts';
import { Child } from '../support/processes.ts';

/** A minute of traffic, and what starts before it and is read out behind it, on a busy machine. */
const TIMEOUT_MS = 10 * 60_000;

let why = '';
try {
  await fetchBrokers(['4.3']);
} catch (error) {
  why = ` (${(error as Error).message.replaceAll(/\s+/g, ' ')})`;
}

async function soak(...args: string[]): Promise<{ code: number | null; text: string }> {
  const lines: string[] = [];
  const child = new Child('soak', process.execPath, ['test/e2e/soak.ts', ...args], {
    env: { NO_COLOR: '1' },
    onLine: (line) => lines.push(line),
  });
  const { code } = await child.exited;
  return { code, text: lines.join('\n') };
}

describe.skipIf(why !== '')(`npm run soak -- --minutes 1${why}`, () => {
  let code: number | null;
  let text = '';
  beforeAll(async () => {
    ({ code, text } = await soak('--minutes', '1'));
  }, TIMEOUT_MS);

  it('holds', () => {
    const failed = text.split('\n').filter((line) => /FAIL|FAULT|The soak failed/.test(line));
    expect({ failed, code }).toEqual({ failed: [], code: 0 });
  });

  it('has seen each event at least once', () => {
    const [events = ''] = /PASS {2}events .*/.exec(text) ?? [];
    const kinds = ['certificate rotations', 'reloads', 'broker restarts', 'refused reloads', 'broker kills'];
    for (const kind of kinds) expect(events).toMatch(new RegExp(`[1-9]\\d* ${kind}`));
  });

  it('looks at both modes', () => {
    for (const mode of ['transparent', 'pool'])
      for (const what of [
        'resident memory',
        'descriptors at rest',
        'metrics at rest',
        'exit code after SIGTERM',
      ])
        expect(text).toContain(`PASS  ${mode}: ${what}`);
  });

  it('moves messages', () => {
    const [, confirmed, received] = /(\d+) confirmed, (\d+) received, \d+ redelivered/.exec(text) ?? [];
    expect(Number(confirmed)).toBeGreaterThan(1000);
    expect(Number(received)).toBeGreaterThanOrEqual(Number(confirmed));
    expect(text).toMatch(/PASS {2}lost after confirm +none/);
  });
});

describe('the soak as a program', () => {
  it('refuses what it does not understand with its help', async () => {
    const { code, text } = await soak('--minutes', '0');
    expect(code).toBe(2);
    expect(text).toContain('option --minutes: "0" is no whole number from 1 to 600');
    expect(text).toContain('--broker VERSION');
  });
});
