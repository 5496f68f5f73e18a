import { afterAll, expect, it } from 'vitest';
import { Drill } from '../e2e/drill/drill.ts';
import type { Narrator } from '../e2e/narrator.ts';
import { describePods } from '../support/pods/describe-pods.ts';

describePods('The drill: an upgrade from RabbitMQ 3.10 to 4.0 under traffic', () => {
  const told: string[] = [];
  const tell = (line: string) => void told.push(line);
  const narrator: Narrator = {
    progress: tell,
    step: (id, title) => tell(`${id}. ${title}`),
    say: tell,
    diff: () => {},
  };
  const drill = new Drill({ from: '3.10', to: '4.0', replicas: 1, retain: true, verbose: true }, narrator);
  afterAll(() => drill.end());

  it(
    'goes through to the end of the proxy, with storage that only the wipe empties',
    async () => {
      await drill.run().catch((error: unknown) => {
        throw new Error(told.slice(-30).join('\n'), { cause: error });
      });
      expect(drill.rows.filter(({ holds }) => holds === false)).toEqual([]);
      expect(drill.rows.filter(({ holds }) => holds === true).length).toBeGreaterThanOrEqual(8);
      const phases = drill.rows.filter(({ what }) => what.startsWith('phase ')).map(({ what }) => what);
      expect(phases).toEqual(['phase DeletingResources', 'phase WaitingForPods', 'phase WaitingForCluster']);
    },
    10 * 60_000,
  );
});
