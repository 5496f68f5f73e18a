import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_WARNING, MAX_WARNINGS, allow, boundWarnings, deny } from '../../../webhook/answer.ts';

const verdict = { decision: 'yes', reason: 'enable-proxy' };

describe('an answer', () => {
  it('carries the patch as base64 of UTF-8 JSON, with its type', () => {
    const patch = [{ op: 'add' as const, path: '/metadata/annotations/x', value: 'größer ✓' }];
    const { response } = allow('u', verdict, patch);
    expect(response).toMatchObject({ uid: 'u', allowed: true, patchType: 'JSONPatch' });
    expect(JSON.parse(Buffer.from(response.patch ?? '', 'base64').toString('utf8'))).toEqual(patch);
  });

  it('has neither patch nor patchType nor warnings when there is nothing to say', () => {
    expect(allow('u', verdict)).toEqual({
      apiVersion: 'admission.k8s.io/v1',
      kind: 'AdmissionReview',
      response: { uid: 'u', allowed: true, auditAnnotations: verdict },
    });
  });

  it('denies with code and message and never with a patch', () => {
    expect(deny('u', verdict, 422, 'no').response).toEqual({
      uid: 'u',
      allowed: false,
      auditAnnotations: verdict,
      status: { status: 'Failure', code: 422, message: 'no' },
    });
  });
});

describe('warnings', () => {
  it('stay as they are when they are short, once each', () => {
    expect(boundWarnings(['one', 'two', 'one'])).toEqual(['one', 'two']);
  });

  it('are cut at 256 characters, not in the middle of one', () => {
    const [warning = ''] = boundWarnings(['😀'.repeat(300)]);
    expect(Array.from(warning)).toHaveLength(MAX_WARNING);
    expect(warning).toBe(`${'😀'.repeat(MAX_WARNING - 1)}…`);
  });

  it('hold no control characters and fit the limits, whatever they were', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'binary', maxLength: 400 }), { maxLength: 40 }), (warnings) => {
        const bounded = boundWarnings(warnings);
        const lengths = bounded.map((warning) => Array.from(warning).length);
        expect(Math.max(0, ...lengths)).toBeLessThanOrEqual(MAX_WARNING);
        expect(lengths.reduce((sum, length) => sum + length, 0)).toBeLessThanOrEqual(MAX_WARNINGS);
        expect(bounded.join('')).not.toMatch(/\p{Cc}/u);
      }),
    );
  });
});
