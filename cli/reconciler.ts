import { reconcilerOptions } from '../reconciler/options.ts';
import type { CommandSpec } from './command.ts';
import { serve } from './serve.ts';

/** 10 s for work under way, 5 s for a request about the Lease and 3 s to give it back, at the most, and some to spare. */
const shutdownMs = 25_000;

export const command: CommandSpec<typeof reconcilerOptions> = {
  name: 'reconciler',
  summary: 'Carry RabbitMqs out: create clusters, upgrade them, and take the proxy out when nobody needs it.',
  options: reconcilerOptions,
  examples: [
    {
      purpose: 'in the cluster, as the manifests run it',
      command: 'quorumbridge reconciler --lease=quorumbridge-system/quorumbridge-reconciler',
    },
    {
      purpose: 'from outside, for one namespace, with a human in between',
      command: 'quorumbridge reconciler --no-leader-election --namespace=openstack --require-approval',
    },
  ],
  run: (values, io) =>
    serve({
      name: 'reconciler',
      options: reconcilerOptions,
      values,
      io,
      async start(log) {
        const { startReconciler } = await import('../reconciler/main.ts');
        const running = await startReconciler(values, log);
        return { close: () => running.close(), closeMs: () => shutdownMs };
      },
    }),
};
