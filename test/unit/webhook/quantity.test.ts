import { describe, expect, it } from 'vitest';
import { quantity } from '../../../common/kube/quantity.ts';
import type { Json } from '../../../common/kube/types.ts';

describe('a quantity', () => {
  it.each<[Json, number]>([
    [2, 2],
    [0.5, 0.5],
    ['0', 0],
    ['500m', 0.5],
    ['1.5', 1.5],
    ['+1', 1],
    ['.5', 0.5],
    ['1.', 1],
    ['1k', 1000],
    ['1Ki', 1024],
    ['1.5Gi', 1_610_612_736],
    ['1e3', 1000],
    ['12E-1', 1.2],
    ['1E', 1e18],
  ])('%j is %d', (text, value) => {
    expect(quantity(text)).toBe(value);
  });

  it.each<Json[]>([
    ['1g'],
    ['m'],
    [''],
    ['1 Gi'],
    ['-1'],
    [-1],
    ['1KiB'],
    ['0x10'],
    ['1e'],
    ['1e333'],
    [null],
    [true],
    [[]],
    ['NaN'],
  ])('%j is none', (text) => {
    expect(quantity(text)).toBeUndefined();
  });

  it.each([
    ['0.1', '100m'],
    ['1024Mi', '1Gi'],
    ['1000m', '1'],
    ['100u', '0.1m'],
    ['300n', '0.3u'],
  ])('%s equals %s', (a, b) => {
    expect(quantity(a)).toBe(quantity(b));
  });
});
