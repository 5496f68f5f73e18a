// Writes AdmissionReviews of admission.k8s.io/v1 as answers.
import type { Operation } from 'fast-json-patch';

/** Longest warning, in characters (code points), and the most of all together: the API server cuts what is longer. */
export const MAX_WARNING = 256;
export const MAX_WARNINGS = 4096;

/** An AdmissionReview that answers one. `patch` and `patchType` are there together or not at all. */
export interface ReviewAnswer {
  apiVersion: 'admission.k8s.io/v1';
  kind: 'AdmissionReview';
  response: {
    uid: string;
    allowed: boolean;
    patchType?: 'JSONPatch';
    /** RFC 6902, as base64 of UTF-8 JSON. */
    patch?: string;
    warnings?: string[];
    /** The API server records them as WEBHOOK_NAME/decision and WEBHOOK_NAME/reason. */
    auditAnnotations: { decision: string; reason: string };
    /** Only of denials; kubectl shows the message. */
    status?: { status: 'Failure'; code: number; message: string };
  };
}

/** What was decided, as it goes to the log, the metrics and the audit annotations. */
export interface Verdict {
  decision: string;
  reason: string;
  warnings?: readonly string[];
}

/**
 * Warnings as HTTP headers can carry them: no control characters, no repetition, each at most MAX_WARNING characters
 * and all together at most MAX_WARNINGS; what does not fit any more is left out.
 */
export function boundWarnings(warnings: readonly string[]): string[] {
  const bounded = new Set<string>();
  let room = MAX_WARNINGS;
  for (const warning of warnings) {
    const characters = Array.from(warning.toWellFormed().replace(/\p{Cc}+/gu, ' '));
    const cut = characters.length > MAX_WARNING ? [...characters.slice(0, MAX_WARNING - 1), '…'] : characters;
    const text = cut.join('');
    if (bounded.has(text)) continue;
    if (cut.length > room) break;
    room -= cut.length;
    bounded.add(text);
  }
  return [...bounded];
}

function answer(uid: string, allowed: boolean, { decision, reason, warnings = [] }: Verdict): ReviewAnswer {
  const bounded = boundWarnings(warnings);
  return {
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    response: {
      uid,
      allowed,
      ...(bounded.length > 0 && { warnings: bounded }),
      auditAnnotations: { decision, reason },
    },
  };
}

/** Allows, with the patch when there is something in it. */
export function allow(uid: string, verdict: Verdict, patch: readonly Operation[] = []): ReviewAnswer {
  const review = answer(uid, true, verdict);
  if (patch.length > 0) {
    review.response.patchType = 'JSONPatch';
    review.response.patch = Buffer.from(JSON.stringify(patch), 'utf8').toString('base64');
  }
  return review;
}

/** Denies: the object is refused whatever the failurePolicy says, with `code` and `message` for the user. */
export function deny(uid: string, verdict: Verdict, code: number, message: string): ReviewAnswer {
  const review = answer(uid, false, verdict);
  review.response.status = { status: 'Failure', code, message };
  return review;
}
