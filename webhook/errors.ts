// The webhook's own refusals: everything that is answered without an AdmissionReview in it. docs/errors.md
// lists them; a test holds the two together.

/**
 * Reason → HTTP status of each answer that is not a review. A status outside 2xx hands the decision to the
 * `failurePolicy` of the webhook's registration, so it is used only where the request itself is wrong (4xx) or
 * this program failed (500); a verdict about an object is always a review with HTTP 200.
 */
export const REQUEST_ERRORS = {
  NotJson: 400,
  NestedTooDeeply: 400,
  NotAnAdmissionReview: 400,
  UnsupportedReviewVersion: 400,
  InvalidReview: 400,
  UnknownKind: 400,
  BadRequest: 400,
  NotFound: 404,
  MethodNotAllowed: 405,
  RequestEntityTooLarge: 413,
  UnsupportedMediaType: 415,
  InternalError: 500,
} as const;

export type RequestErrorReason = keyof typeof REQUEST_ERRORS;

/** A request that can't be answered with a review. `message` names the field, its value and the way out. */
export class RequestError extends Error {
  override readonly name = 'RequestError';
  readonly reason: RequestErrorReason;

  constructor(reason: RequestErrorReason, message: string) {
    super(message);
    this.reason = reason;
  }

  /** HTTP status code. */
  get status(): number {
    return REQUEST_ERRORS[this.reason];
  }
}

/** The body of a refusal: a `metav1.Status`, the only form whose message an API server shows to its user. */
export interface FailureStatus {
  kind: 'Status';
  apiVersion: 'v1';
  status: 'Failure';
  reason: RequestErrorReason;
  code: number;
  message: string;
}

/** Makes the body that goes with a refusal. */
export function failureStatus(error: RequestError): FailureStatus {
  return {
    kind: 'Status',
    apiVersion: 'v1',
    status: 'Failure',
    reason: error.reason,
    code: error.status,
    message: error.message,
  };
}
