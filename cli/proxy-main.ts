import { runProcess } from './run.ts';

// The program of the proxy's image: the same command line, with the commands that its bundle holds. `rewrite` explains the
// rules that are mounted there, `config` checks a configuration, `credentials` makes what stands for a password in one.
// The bundle is CommonJS, which has no await here.
void runProcess({
  proxy: () => import('./proxy.ts'),
  rewrite: () => import('./rewrite.ts'),
  config: () => import('./config.ts'),
  credentials: () => import('./credentials.ts'),
});
