import { runProcess } from './run.ts';

// The program of the proxy's image: the same command line, with the one command that its bundle holds.
await runProcess({ proxy: () => import('./proxy.ts') });
