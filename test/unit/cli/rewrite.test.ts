import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runCommandLine } from '../../../cli/run.ts';

const RULES = `rules:
- name: of nova
  match: {queue: "q", user: "nova*", vhost: "/nova"}
  action: classic-durable
`;

let folder: string;
let rules: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'quorumbridge-rewrite-'));
  rules = join(folder, 'rules.yaml');
  writeFileSync(rules, RULES);
});
afterAll(() => rmSync(folder, { recursive: true }));

async function rewrite(args: string[], stdin = ''): Promise<{ code: number; out: string; err: string }> {
  const written = { out: '', err: '' };
  const sink = (key: 'out' | 'err'): Writable =>
    new Writable({
      write(chunk: Buffer, _encoding, done) {
        written[key] += chunk.toString();
        done();
      },
    });
  const io = { stdin: Readable.from([stdin]), stdout: sink('out'), stderr: sink('err'), env: {} };
  const code = await runCommandLine(
    ['rewrite', ...args],
    { rewrite: () => import('../../../cli/rewrite.ts') },
    io,
  );
  return { code, ...written };
}

describe('quorumbridge rewrite', () => {
  it('explains a declare on the newest version and without rules', async () => {
    const { code, out, err } = await rewrite(['--explain', '{"queue": "q"}']);
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(out).toMatch(/^queue\.declare on RabbitMQ 4\.3\nrule: default \(built in\): action quorum\n/);
  });

  it('takes the declare from standard input, and gives JSON', async () => {
    const { code, out } = await rewrite(['--explain', '-', '--json'], '{"queue": "q"}\n');
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({
      declared: { queue: 'q' },
      rewritten: true,
      rule: { name: 'default' },
    });
  });

  it('has the rules of a file, for a user in a virtual host', async () => {
    const ruleFor = async (...args: string[]): Promise<string | undefined> => {
      const { out } = await rewrite(['--explain', '{"queue": "q"}', '--rules', rules, ...args]);
      return /^rule: (.*)$/m.exec(out)?.[1];
    };
    expect(await ruleFor('--user=nova', '--vhost=/nova')).toBe(
      `of nova (${rules}:2:3): action classic-durable`,
    );
    expect(await ruleFor('--vhost=/nova')).toBe('default (built in): action quorum');
    expect(await ruleFor('--user=nova')).toBe('default (built in): action quorum');
  });

  it('has the rules of a preset', async () => {
    const { out } = await rewrite(['--explain', '{"queue": "celeryev.1"}', '--preset=celery']);
    expect(out).toContain('rule: events of Celery (preset celery): action classic-durable\n');
  });

  it.each(['3.8', '3.13', '4.0', '4.3', '4.3.6'])('knows RabbitMQ %s', async (version) => {
    const { code, out } = await rewrite(['--explain', '{}', '--broker', version]);
    expect(code).toBe(0);
    expect(out).toContain(`on RabbitMQ ${version.split('.', 2).join('.')}\n`);
  });

  it.each([
    [
      ['--broker=3.7'],
      'option --broker: "3.7" is not valid: expected a version from 3.8 to 4.3, such as 4.0',
    ],
    [['--broker=4.4'], 'option --broker: "4.4" is not valid'],
    [['--broker=four'], 'option --broker: "four" is not valid'],
    [['--preset=nova'], 'option --preset: "nova" is not valid: expected one of generic, openstack, celery'],
    [['--rules=/nowhere/rules.yaml'], 'option --rules: /nowhere/rules.yaml cannot be read: ENOENT'],
    [['--explain={"durable": 1}'], 'option --explain: key "durable": expected true or false, not 1'],
    [['--explain={"nowait": true}'], 'option --explain: key "nowait": queue.declare has no such argument'],
    [['--explain=q'], 'option --explain: it is no JSON'],
  ])('ends with 2 and says what is wrong: %j', async (args, message) => {
    const { code, out, err } = await rewrite(['--explain={}', ...args]);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toContain(`quorumbridge rewrite: ${message}`);
  });

  it('names all that is wrong with a rules file', async () => {
    const path = join(folder, 'wrong.yaml');
    writeFileSync(path, 'rules:\n- {action: no}\n- {actions: leave}\n');
    const { code, err } = await rewrite(['--explain={}', '--rules', path]);
    expect(code).toBe(2);
    expect(err.match(/^quorumbridge rewrite: .*wrong\.yaml:\d+:\d+: /gm)).toHaveLength(3);
  });

  it('needs something to explain', async () => {
    const { code, err } = await rewrite([]);
    expect(code).toBe(2);
    expect(err).toContain('option --explain is required');
  });
});
