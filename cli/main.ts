import { runProcess } from './run.ts';

await runProcess({
  proxy: () => import('./proxy.ts'),
  webhook: () => import('./webhook.ts'),
  reconciler: () => import('./reconciler.ts'),
  inject: () => import('./inject.ts'),
  explain: () => import('./explain.ts'),
  rewrite: () => import('./rewrite.ts'),
  report: () => import('./report.ts'),
  upgrade: () => import('./upgrade.ts'),
  topology: () => import('./topology.ts'),
  dlq: () => import('./dlq.ts'),
  config: () => import('./config.ts'),
  credentials: () => import('./credentials.ts'),
  certs: () => import('./certs.ts'),
});
