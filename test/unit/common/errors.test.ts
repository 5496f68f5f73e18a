import { describe, expect, it } from 'vitest';
import { messageOf } from '../../../common/errors.ts';

describe('messageOf', () => {
  it('gives the message of an error with those of its causes', () => {
    expect(messageOf(new Error('a', { cause: new Error('b', { cause: 'c' }) }))).toBe('a: b: c');
  });

  it('gives what was thrown when it is no error', () => {
    expect(messageOf('plain')).toBe('plain');
    expect(messageOf(undefined)).toBe('undefined');
  });

  it('joins the errors of an aggregate that says nothing itself', () => {
    expect(messageOf(new AggregateError([new Error('v4 refused'), new Error('v6 refused')]))).toBe(
      'v4 refused; v6 refused',
    );
  });
});
