/**
 * An option, a configuration file or an input that cannot be used as it is. The message names it, its
 * value (unless it is a secret) and the way out; the command line prints it without a stack and exits 2.
 */
export class UsageError extends Error {
  override name = 'UsageError';
}

/** The text of whatever was thrown: an Error's message, with the causes it carries, or the value itself. */
export function messageOf(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown);
  if (thrown instanceof AggregateError && thrown.message === '')
    return thrown.errors.map(messageOf).join('; ');
  return thrown.cause === undefined ? thrown.message : `${thrown.message}: ${messageOf(thrown.cause)}`;
}
