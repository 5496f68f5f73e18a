import { globSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadConfig } from '../../../messaging/config.ts';
import { text, time } from '../../../messaging/examples/fields.ts';
import { onUserCreated } from '../../../messaging/examples/user-created.ts';
import { onPasswordUpdated } from '../../../messaging/examples/user-password-updated.ts';
import type { Context } from '../../../messaging/index.ts';
import { HOME } from '../../support/processes.ts';

/** The handlers of events use nothing of it. */
const NO_CONTEXT = {} as Context;

describe('messaging/examples', () => {
  it.each(globSync('messaging/examples/*.yaml', { cwd: HOME }))('%s loads without a warning', (file) => {
    const { exchanges, warnings } = loadConfig(join(HOME, file), {});
    expect(exchanges).toHaveLength(1);
    expect(warnings).toEqual([]);
  });

  it('has the task queues with their priorities and retries', () => {
    const file = join(HOME, 'messaging/examples/tasks.yaml');
    const queues = loadConfig(file, {}).exchanges.flatMap((exchange) => exchange.queues);
    expect(queues.map(({ name, maxPriority, retryMs }) => [name, maxPriority, retryMs])).toEqual([
      ['tasks.background', undefined, [60_000]],
      ['tasks.llm', 10, []],
      ['tasks.debate', undefined, []],
      ['tasks.verification', undefined, []],
      ['tasks.notifications', undefined, []],
    ]);
  });

  it('names what is wrong with an event, and not what it holds', () => {
    expect(() => text('secret', 'email')).toThrow('expected an object');
    expect(() => text({ email: 17 }, 'email')).toThrow('email: expected a text that is not empty');
    expect(() => time({ at: 'secret' }, 'at')).toThrow('at: expected a time like');
    const created = onUserCreated(new Map());
    expect(() => created.accept({ user_id: 'u', email: 'none' })).toThrow('email: expected an address');
    expect(() => created.accept({ email: 'u@example.org' })).toThrow('user_id: expected a text');
  });

  it('handles an event that comes twice, or late, as if it had come once and in time', async () => {
    const validFrom = new Map<string, Date>();
    const updated = onPasswordUpdated(validFrom);
    for (const day of ['02', '01', '02'])
      await updated.accept({ user_id: 'u', changed_at: `2026-01-${day}T00:00:00Z` })(NO_CONTEXT);
    expect(validFrom.get('u')?.toISOString()).toBe('2026-01-02T00:00:00.000Z');
    const profiles = new Map<string, { email: string }>();
    const created = onUserCreated(profiles);
    for (const email of ['one@example.org', 'two@example.org'])
      await created.accept({ user_id: 'u', email })(NO_CONTEXT);
    expect(profiles.get('u')).toEqual({ email: 'one@example.org' });
  });
});
