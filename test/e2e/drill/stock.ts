// What a broker of the drill has before the upgrade, besides what the client declares: definitions of every kind, and
// messages that nobody fetches.
import { eventually } from '../../support/kube-api.ts';
import type { BrokerApi } from './broker-api.ts';

/** The client's own account and virtual host. */
export const ACCOUNT = { user: 'nova', password: 'nova-secret', vhost: 'nova' };
/** A durable queue without a consumer, and what is in it. */
export const ARCHIVE = { queue: 'archive', persistent: 25, transient: 10 };

export async function stock(api: BrokerApi): Promise<void> {
  const { user, password, vhost } = ACCOUNT;
  const put = (path: string, body: unknown = {}) => api.call('PUT', path, body);
  for (const name of [vhost, 'neutron']) await put(`vhosts/${name}`);
  await put(`users/${user}`, { password, tags: '' });
  await put('users/auditor', { password: 'auditor-secret', tags: 'monitoring' });
  await put(`permissions/${vhost}/${user}`, { configure: '.*', write: '.*', read: '.*' });
  await put('permissions/neutron/auditor', { configure: '^$', write: '^$', read: '.*' });
  await put(`vhost-limits/neutron/max-connections`, { value: 500 });

  await put(`exchanges/${vhost}/notifications`, { type: 'topic', durable: true });
  await put(`exchanges/${vhost}/dead-letters`, { type: 'fanout', durable: true });
  await put(`exchanges/neutron/agents`, { type: 'direct', durable: true });
  await put(`queues/${vhost}/${ARCHIVE.queue}`, { durable: true });
  await put(`queues/${vhost}/limited`, {
    durable: true,
    arguments: { 'x-max-length': 1000, 'x-message-ttl': 600_000, 'x-dead-letter-exchange': 'dead-letters' },
  });
  await put(`queues/${vhost}/lazy`, { durable: true, arguments: { 'x-queue-mode': 'lazy' } });
  await put(`queues/${vhost}/priorities`, { durable: true, arguments: { 'x-max-priority': 5 } });
  await put(`queues/neutron/replicated`, { durable: true, arguments: { 'x-queue-type': 'quorum' } });
  const bind = (exchange: string, queue: string, key: string) =>
    api.call('POST', `bindings/${vhost}/e/${exchange}/q/${queue}`, { routing_key: key });
  await bind('notifications', ARCHIVE.queue, 'audit.#');
  await bind('notifications', 'limited', 'metrics.#');
  await bind('dead-letters', 'lazy', '');

  const mirrored = { 'ha-mode': 'all', 'ha-sync-mode': 'automatic' };
  await put(`policies/${vhost}/ha-all`, {
    pattern: '.*',
    definition: mirrored,
    priority: 0,
    'apply-to': 'queues',
  });
  await put(`policies/neutron/expiry`, {
    pattern: '^tmp',
    definition: { expires: 3_600_000 },
    priority: 1,
    'apply-to': 'queues',
  });

  const publish = (delivery_mode: number) =>
    api.call<{ routed: boolean }>('POST', `exchanges/${vhost}/notifications/publish`, {
      routing_key: 'audit.login',
      payload: 'a record',
      payload_encoding: 'string',
      properties: { delivery_mode },
    });
  for (let n = 0; n < ARCHIVE.persistent; n += 1) await publish(2);
  for (let n = 0; n < ARCHIVE.transient; n += 1) await publish(1);
  const { persistent, transient } = ARCHIVE;
  await eventually('the count of what nobody fetches', async () => {
    const { messages } = await api.call<{ messages?: number }>('GET', `queues/${vhost}/${ARCHIVE.queue}`);
    return messages === persistent + transient;
  });
}
