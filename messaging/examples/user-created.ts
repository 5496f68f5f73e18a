import { type Handler, type Schema, handler } from '../index.ts';
import { text } from './fields.ts';

interface UserCreated {
  readonly userId: string;
  readonly email: string;
}

const schema: Schema<UserCreated> = {
  parse: (value) => {
    const email = text(value, 'email');
    if (!email.includes('@')) throw new Error('email: expected an address');
    return { userId: text(value, 'user_id'), email };
  },
};

/** Makes the profile of a new user. The event may come twice: a profile that is there stays as it is. @param profiles by user */
export function onUserCreated(profiles: Map<string, { readonly email: string }>): Handler {
  return handler({
    schema,
    handle: ({ userId, email }) => {
      if (profiles.has(userId)) return;
      profiles.set(userId, { email });
      console.log(`user.created: ${userId} has a profile`);
    },
  });
}
