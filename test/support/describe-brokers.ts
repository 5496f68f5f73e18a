import { describe } from 'vitest';
import { fetchBrokers } from './broker.ts';
import type { BrokerVersion } from './broker.ts';

/**
 * Suites against real brokers: one per version, skipped by name with the reason where the server, or one of
 * `alsoNeeds`, cannot be had. To be called at the top level of a test file, with await.
 */
export async function describeBrokers(
  versions: BrokerVersion[],
  define: (version: BrokerVersion) => void,
  alsoNeeds: string[] = [],
): Promise<void> {
  for (const version of versions) {
    let why = '';
    try {
      await fetchBrokers([version, ...alsoNeeds]);
    } catch (error) {
      why = ` (${(error as Error).message.replaceAll(/\s+/g, ' ')})`;
    }
    describe.skipIf(why !== '')(`RabbitMQ ${version}${why}`, () => {
      define(version);
    });
  }
}
