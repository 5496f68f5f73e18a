import type { MeaningChange } from './rules/rule.ts';

/** What the client asked for, and what it gets: the rows of docs/proxy.md (a test holds the two together). */
export const MEANING: Readonly<Record<MeaningChange, string>> = {
  'auto-delete':
    'a queue that goes with its last consumer: the proxy deletes it behind the last one that came through it, and else it goes after 30 minutes without use (or after its own x-expires)',
  'server-named':
    'a queue named by the broker: one named by the proxy, which goes after 30 minutes without use if it was transient',
  'delivery-limit':
    'messages that are requeued for ever: they are dropped, or dead-lettered, after 20 deliveries unless a policy sets delivery-limit',
  priority:
    'the levels of x-max-priority: 4.0 knows two, 4.3 orders by priority without being told, 3.10 has none',
  'overflow-dead-letter':
    'refused messages in the dead-letter exchange: they are refused to the publisher alone',
  'global-prefetch': 'one prefetch limit for a channel: each of its consumers has that limit',
  existing:
    'a queue or exchange that somebody declared without the proxy: it is used as it is, transient or classic',
};
