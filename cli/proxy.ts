import { createLogger } from '../common/log.ts';
import { proxyOptions } from '../proxy/options.ts';
import type { CommandSpec } from './command.ts';
import { serve } from './serve.ts';

/** Sockets that are being closed get this long beyond --drain-timeout. */
const closeMs = 10_000;

export const command: CommandSpec<typeof proxyOptions> = {
  name: 'proxy',
  summary: 'Run the AMQP 0-9-1 proxy that rewrites what RabbitMQ 4 refuses.',
  options: proxyOptions,
  examples: [
    {
      purpose: 'in front of a broker on this machine',
      command: 'quorumbridge proxy --backend=127.0.0.1:5673 --listen=amqp://0.0.0.0:5672',
    },
    {
      purpose: 'as the injected sidecar runs, with TLS for the clients',
      command: [
        'quorumbridge proxy --backend=127.0.0.1:5673 --backend-proxy-protocol=v2 \\',
        '  --listen=amqp://0.0.0.0:5672 --listen=amqps://0.0.0.0:5671 \\',
        '  --tls-cert=/etc/rabbitmq-tls/tls.crt --tls-key=/etc/rabbitmq-tls/tls.key',
      ].join('\n'),
    },
  ],
  async run(values, io) {
    const { startProxy } = await import('../proxy/main.ts');
    const { isWorker, runWorker } = await import('../proxy/workers/worker.ts');
    if (isWorker()) {
      runWorker(io.configuration, createLogger({ name: 'proxy', level: values.logLevel }), startProxy);
      return 0;
    }
    return serve({
      name: 'proxy',
      options: proxyOptions,
      values,
      io,
      async start(log) {
        const { startWorkers } = await import('../proxy/workers/primary.ts');
        const start = values.workers === 1 ? startProxy : startWorkers;
        const running = await start(io.configuration, log);
        return {
          close: () => running.drain(),
          closeMs: () => running.drainMs + closeMs,
          reload: () => void running.reload('SIGHUP'),
        };
      },
    });
  },
};
