// As `globalSetup` of the project `pods`: vitest does not wait for a worker as long as a download or a build may take.
import { fetchBrokers } from '../broker.ts';
import { fetchKube } from '../kube.ts';
import { POD_VERSIONS } from './needs.ts';

export default async function fetchAll(): Promise<void> {
  const tell = (line: string) => process.stderr.write(`${line}\n`);
  try {
    await fetchBrokers(POD_VERSIONS, tell);
    await fetchKube({ operator: true }, tell);
  } catch (error) {
    tell((error as Error).message); // enter.sh finds out too, and the tests are skipped with the reason
  }
}
