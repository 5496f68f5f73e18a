// `npm test`: runs vitest, names what was skipped and ends with one line that a machine can read. Arguments are
// passed on (`npm test -- --project unit`); then the minimum count below does not apply.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';

/** A run of everything in which fewer tests ran than this has lost some on the way, and fails. */
const MINIMUM = 6900;

/** The parts of vitest's JSON report that are used here. */
interface Report {
  numPassedTests: number;
  numFailedTests: number;
  testResults: {
    name: string;
    status: string;
    message: string;
    assertionResults: { fullName: string; status: string }[];
  }[];
}

const passedOn = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), 'quorumbridge-test-'));
const file = join(folder, 'report.json');
const exitCode = await new Promise<number>((resolve) => {
  const args = ['run', '--reporter=default', '--reporter=json', `--outputFile.json=${file}`, ...passedOn];
  const child = spawn('node_modules/.bin/vitest', args, { stdio: 'inherit' });
  child.on('error', (error) => {
    process.stderr.write(`vitest does not start: ${error.message}\n`);
    resolve(1);
  });
  child.on('exit', (code) => resolve(code ?? 1));
});

let report: Report = { numPassedTests: 0, numFailedTests: 0, testResults: [] };
try {
  report = JSON.parse(readFileSync(file, 'utf8')) as Report;
} catch (error) {
  process.stderr.write(`vitest left no report: ${String(error)}\n`);
}
rmSync(folder, { recursive: true, force: true });

const skipped: string[] = [];
let failed = report.numFailedTests;
for (const result of report.testResults) {
  const name = relative(process.cwd(), result.name);
  for (const test of result.assertionResults) {
    if (test.status === 'pending' || test.status === 'skipped' || test.status === 'todo')
      skipped.push(`${name}: ${test.fullName}`);
  }
  // A file that could not be loaded, or whose hooks failed, has no failed test to count.
  if (result.status === 'failed' && !result.assertionResults.some((test) => test.status === 'failed')) {
    process.stdout.write(`failed as a whole: ${name}: ${result.message}\n`);
    failed += 1;
  }
}
if (skipped.length > 0) process.stdout.write(`\nskipped:\n${skipped.map((name) => `  ${name}\n`).join('')}`);

if (exitCode !== 0 && failed === 0) {
  process.stdout.write(`vitest itself ended with exit code ${exitCode}\n`);
  failed = 1;
}
if (passedOn.length === 0 && report.numPassedTests + report.numFailedTests < MINIMUM) {
  process.stdout.write(`fewer than ${MINIMUM} tests ran: some were lost\n`);
  failed += 1;
}
const tail = skipped.length > 0 ? `, ${skipped.length} skipped` : '';
process.stdout.write(`${report.numPassedTests} passed, ${failed} failed${tail}\n`);
process.exitCode = failed === 0 ? 0 : 1;
