import type { ReviewAnswer } from './answer.ts';
import type { Review } from './review.ts';

/** A review that has to be decided about. */
export type ReviewToDecide = Review & { todo: 'decide' };

/** What is answered, and one line about it for the log. */
export interface Outcome {
  readonly answer: 'patched' | 'unchanged' | 'valid' | 'denied' | 'passed';
  readonly review: ReviewAnswer;
  readonly message?: string;
}
