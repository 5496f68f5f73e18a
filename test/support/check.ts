// `npm run check`: types, lint with the import rules, unused code and format. Runs all of them, also after a failure.
import { spawnSync } from 'node:child_process';

const CHECKS: [name: string, command: string, ...args: string[]][] = [
  ['types', 'tsc', '--project', '.'],
  ['lint', 'oxlint', '--deny-warnings', '--disable-nested-config'],
  ['unused code', 'knip'],
  ['format', 'oxfmt', '--check', '.'],
];

const failures: string[] = [];
for (const [name, command, ...args] of CHECKS) {
  const began = performance.now();
  const result = spawnSync(`node_modules/.bin/${command}`, args, { encoding: 'utf8' });
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  const ok = result.status === 0;
  process.stdout.write(`${ok ? 'ok    ' : 'FAILED'} ${name} (${command}, ${seconds} s)\n`);
  if (ok) continue;
  failures.push(name);
  process.stdout.write(`${result.error?.message ?? `${result.stdout}${result.stderr}`}\n`);
}
process.stdout.write(failures.length === 0 ? 'check: clean\n' : `check: ${failures.join(', ')} failed\n`);
process.exitCode = failures.length === 0 ? 0 : 1;
