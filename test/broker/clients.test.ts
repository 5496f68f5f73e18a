// Clients that are not JavaScript, with the defaults of their libraries, on RabbitMQ 4 through the proxy.
import { expect, it } from 'vitest';
import { describeBrokers } from '../support/describe-brokers.ts';
import {
  FOREIGN_CLIENTS,
  itServesForeignClients,
  launch,
  programOf,
  seen,
} from '../support/foreign-clients.ts';

await describeBrokers(
  ['4.0', '4.3'],
  (version) => {
    const served = itServesForeignClients(version);

    if (version === '4.3') {
      it('without the proxy, servers of oslo.messaging and Celery do not start', async () => {
        await served.broker.ctl('add_vhost', 'direct');
        await served.broker.ctl('set_permissions', '-p', 'direct', 'guest', '.*', '.*', '.*');
        const args = [String(served.broker.port), 'direct'];
        for (const [server, ready] of [
          [launch('oslo', programOf('oslo_server'), [...args, 'one']), 'started'],
          [launch('kombu', programOf('celery_worker'), args), ' ready.'],
        ] as const) {
          try {
            await seen(server, '(541) INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated');
            expect(server.lines.filter((line) => line.endsWith(ready))).toEqual([]);
          } finally {
            server.child.kill('SIGKILL'); // while it tries again and again, Celery may not heed SIGTERM
            await server.child.exited;
          }
        }
      });
    }
  },
  FOREIGN_CLIENTS,
);
