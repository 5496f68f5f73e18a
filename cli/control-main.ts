import { runProcess } from './run.ts';

// The program of the control image: the same command line, with the commands that its bundle holds.
await runProcess({
  webhook: () => import('./webhook.ts'),
  reconciler: () => import('./reconciler.ts'),
});
