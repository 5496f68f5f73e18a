import { runProcess } from './run.ts';

// The program of the proxy's image: the same command line, with the commands that its bundle holds. `rewrite` explains the
// rules that are mounted there.
await runProcess({ proxy: () => import('./proxy.ts'), rewrite: () => import('./rewrite.ts') });
