import { type Handler, type Schema, handler } from '../index.ts';
import { text, time } from './fields.ts';

interface PasswordUpdated {
  readonly userId: string;
  readonly changedAt: Date;
}

const schema: Schema<PasswordUpdated> = {
  parse: (value) => ({ userId: text(value, 'user_id'), changedAt: time(value, 'changed_at') }),
};

/**
 * Ends the sessions that a user has begun with the old password. Events may come twice, and late: only the newest counts.
 * @param validFrom by user: sessions that began before are ended
 */
export function onPasswordUpdated(validFrom: Map<string, Date>): Handler {
  return handler({
    schema,
    handle: ({ userId, changedAt }) => {
      const known = validFrom.get(userId);
      if (known === undefined || known < changedAt) validFrom.set(userId, changedAt);
      console.log(`user.password.updated: ${userId} has to log in again`);
    },
  });
}
