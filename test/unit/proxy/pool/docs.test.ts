import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { REPLY } from '../../../../amqp/constants.ts';
import { PROXY_ERRORS } from '../../../../proxy/errors.ts';
import { Ledger } from '../../../../proxy/ledger.ts';
import { createProxyMetrics } from '../../../../proxy/metrics.ts';
import { proxyOptions } from '../../../../proxy/options.ts';
import { poolOptions } from '../../../../proxy/pool/options.ts';
import { Stats } from '../../../../proxy/stats.ts';
import { PROXY_ERROR_TEXTS } from '../../../support/docs/error-texts.ts';

const document = readFileSync(new URL('../../../../docs/pool.md', import.meta.url), 'utf8');

/** The cells of every row of the table under a heading, without its head. */
function rows(heading: string): string[][] {
  const section = document.split(`## ${heading}\n`)[1]?.split('\n## ')[0] ?? '';
  return section
    .split('\n')
    .filter((line) => line.startsWith('| '))
    .slice(1)
    .map((line) => line.slice(2, -2).split(' | '));
}

describe('docs/pool.md', () => {
  it('has errors with reply codes of AMQP and codes of the proxy, all of pool mode among them', () => {
    const errors = rows('Errors');
    const replies = Object.values<number>(REPLY);
    for (const [, reply] of errors) expect(replies).toContain(Number(/^\d{3}/.exec(reply!)));
    const codes = new Set(errors.flatMap(([, , code]) => [...code!.matchAll(/\w+(?=`)/g)].flat()));
    expect(Object.keys(PROXY_ERRORS)).toEqual(expect.arrayContaining([...codes]));
    const pooled = Object.entries(PROXY_ERROR_TEXTS)
      .filter(([, { happened }]) => happened.startsWith('mode pool: '))
      .map(([code]) => code);
    expect(pooled.length).toBeGreaterThan(3);
    expect([...codes]).toEqual(expect.arrayContaining(pooled));
  });

  it('names metrics that there are', async () => {
    const served = await createProxyMetrics(new Stats(), new Ledger({ mode: 'pool', limit: 1 })).text();
    const named = [...document.matchAll(/quorumbridge_proxy_\w+/g)].map(([name]) => name);
    expect(named.length).toBeGreaterThan(8);
    for (const name of named) expect(served).toContain(`# TYPE ${name} `);
  });

  it('names options that there are, and every one of pool mode', () => {
    const named = new Set([...document.matchAll(/--([a-z][a-z-]+)/g)].map(([, name]) => name!));
    const names = Object.values(proxyOptions).map(({ name }) => name as string);
    expect(names).toEqual(expect.arrayContaining([...named]));
    expect([...named]).toEqual(expect.arrayContaining(Object.values(poolOptions).map(({ name }) => name)));
  });
});
