import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isDeeperThan, parseBody } from '../../../webhook/body.ts';
import { RequestError } from '../../../webhook/errors.ts';

function refusal(body: Uint8Array): RequestError {
  try {
    parseBody(body);
  } catch (error) {
    if (error instanceof RequestError) return error;
    throw error;
  }
  throw new Error('the body was not refused');
}

describe('parsing a request body', () => {
  it('gives what JSON.parse gives', () => {
    fc.assert(
      fc.property(fc.json(), (json) => {
        expect(parseBody(Buffer.from(json))).toEqual(JSON.parse(json));
      }),
    );
  });

  it('takes any bytes if and only if they are JSON in UTF-8, and else says NotJson', () => {
    const isJson = (bytes: Uint8Array): boolean => {
      try {
        JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
        return true;
      } catch {
        return false;
      }
    };
    const outcome = (bytes: Uint8Array): string => {
      try {
        parseBody(bytes);
        return 'json';
      } catch (error) {
        return error instanceof RequestError ? error.reason : String(error);
      }
    };
    const almostJson = fc.json().map((json) => Buffer.from(json.slice(1)));
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array(), almostJson), (bytes) => {
        expect(outcome(bytes)).toBe(isJson(bytes) ? 'json' : 'NotJson');
      }),
    );
  });

  it('says where the error is without quoting the body, which may hold passwords', () => {
    const body = '{"additionalConfig": "default_pass = hunter2", oops}';
    const { message } = refusal(Buffer.from(body));
    expect(message).toContain(`character ${body.indexOf('oops')}`);
    expect(message).not.toContain('hunter2');
    expect(refusal(Buffer.from('hunter2')).message).not.toContain('hunter2');
    expect(refusal(Buffer.alloc(0)).message).toContain('empty');
  });

  it('refuses bytes that are not UTF-8 instead of changing them', () => {
    expect(refusal(Buffer.from([0x22, 0xff, 0x22])).message).toContain('UTF-8');
  });

  it('refuses 8 MB of brackets quickly and without parsing them', () => {
    const before = process.memoryUsage().heapUsed;
    const started = performance.now();
    expect(refusal(Buffer.from('['.repeat(8_000_000))).reason).toBe('NestedTooDeeply');
    expect(performance.now() - started).toBeLessThan(1000);
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(50_000_000);
  });

  it('counts only brackets outside of strings, and levels rather than brackets', () => {
    const text = JSON.stringify({
      a: '[{'.repeat(20_000),
      b: '\\"[['.repeat(20_000),
      c: Array.from({ length: 20_000 }, () => []),
    });
    expect(parseBody(Buffer.from(text))).toEqual(JSON.parse(text));
    const nested = (depth: number): Buffer => Buffer.from('['.repeat(depth) + ']'.repeat(depth));
    expect(() => parseBody(nested(10_000))).not.toThrow();
    expect(refusal(nested(10_001)).reason).toBe('NestedTooDeeply');
  });
});

describe('the depth of a value', () => {
  it('is that of its deepest level', () => {
    expect(isDeeperThan(1, 0)).toBe(false);
    expect(isDeeperThan({}, 0)).toBe(true);
    expect(isDeeperThan({ a: [1, { b: null }], c: 2 }, 2)).toBe(true);
    expect(isDeeperThan({ a: [1, { b: null }], c: 2 }, 3)).toBe(false);
  });
});
