/**
 * How a publish ended that was not confirmed.
 *
 * `returned` no queue is bound where it went · `nacked` the broker could not keep it · `refused` the broker ended the channel
 * for it · `timed-out` neither came in time: it may have arrived · `closed` the publisher was closed before: it may have
 * arrived if it was sent · `overflow` too many wait: it was not sent · `invalid` it can't be sent at all
 */
export type PublishFailure =
  | 'returned'
  | 'nacked'
  | 'refused'
  | 'timed-out'
  | 'closed'
  | 'overflow'
  | 'invalid';

/** A publish that was not confirmed. The message says which one, why, and what can be done; it never has the content. */
export class PublishError extends Error {
  override readonly name = 'PublishError';
  readonly failure: PublishFailure;
  readonly messageId: string;
  /** Whether it went to the broker at least once: then it may have arrived all the same, but for `returned` and `refused`. */
  readonly sent: boolean;

  constructor(failure: PublishFailure, messageId: string, sent: boolean, message: string) {
    super(message);
    this.failure = failure;
    this.messageId = messageId;
    this.sent = sent;
  }
}
