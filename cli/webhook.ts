import { webhookOptions } from '../webhook/options.ts';
import type { CommandSpec } from './command.ts';
import { serve } from './serve.ts';

/** Answers under way when the server closes get this long beyond --shutdown-delay. */
const closeMs = 10_000;

export const command: CommandSpec<typeof webhookOptions> = {
  name: 'webhook',
  summary: 'Serve the admission webhook that injects the proxy into RabbitMQ clusters.',
  options: webhookOptions,
  examples: [
    {
      purpose: 'with a certificate that cert-manager mounts',
      command: 'quorumbridge webhook --tls-cert=/tls/tls.crt --tls-key=/tls/tls.key',
    },
    {
      purpose: 'with certificates of its own, which its replicas keep in a Secret',
      command: 'quorumbridge webhook --tls-secret=quorumbridge-system/quorumbridge-webhook-cert',
    },
    {
      purpose: 'to try it: a certificate made on the spot, and no cluster to ask',
      command: 'quorumbridge webhook --listen=127.0.0.1:9443 --self-signed --ca-out=ca.crt --no-cluster',
    },
  ],
  run: (values, io) =>
    serve({
      name: 'webhook',
      options: webhookOptions,
      values,
      io,
      async start(log) {
        const { startWebhook } = await import('../webhook/main.ts');
        const running = await startWebhook(values, log);
        return { close: () => running.close(), closeMs: () => values.shutdownDelay * 1000 + closeMs };
      },
    }),
};
