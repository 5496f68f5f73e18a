import { describe } from 'vitest';

/**
 * A suite with real pods (kubelet.ts), skipped by name with the reason where there can be no world for them. Its file is
 * one of the project `pods` in vitest.config.ts.
 */
export function describePods(name: string, define: () => void): void {
  const why = process.env['QUORUMBRIDGE_WORLD_WHY'] ?? '';
  const title = why === '' ? '' : ` (${why})`;
  describe.skipIf(why !== '')(`${name}${title}`, () => {
    define();
  });
}
