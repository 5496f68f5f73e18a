import { describe, expect, it } from 'vitest';
import { type LogLevel, createLogger } from '../../../common/log.ts';

function capture(level: LogLevel): {
  log: ReturnType<typeof createLogger>;
  lines: () => Record<string, unknown>[];
} {
  const written: string[] = [];
  const log = createLogger({
    name: 'test',
    level,
    destination: { write: (line) => void written.push(line) },
  });
  return { log, lines: () => written.map((line) => JSON.parse(line) as Record<string, unknown>) };
}

describe('createLogger', () => {
  it('writes one JSON object a line with level as a word, ISO time, name and message', () => {
    const { log, lines } = capture('info');
    log.info({ connections: 3 }, 'statistics');
    const [line] = lines();
    expect(line).toEqual({
      level: 'info',
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/) as string,
      name: 'test',
      connections: 3,
      msg: 'statistics',
    });
  });

  it('leaves out what is below its level, and everything when silent', () => {
    const warn = capture('warn');
    warn.log.info('no');
    warn.log.warn('yes');
    expect(warn.lines().map(({ msg }) => msg)).toEqual(['yes']);
    const silent = capture('silent');
    silent.log.fatal('no');
    expect(silent.lines()).toEqual([]);
  });

  it('never writes passwords, authorization, SASL responses or keys', () => {
    const { log, lines } = capture('info');
    log.info({ password: 'hunter2', tls: { key: 'hunter2', cert: 'ok' } }, 'one');
    log.info(
      { request: { headers: { authorization: 'hunter2', host: 'ok' } }, auth: { response: 'hunter2' } },
      'two',
    );
    log.child({ password: 'hunter2' }).info('three');
    expect(JSON.stringify(lines())).not.toContain('hunter2');
    expect(lines()[0]).toMatchObject({ password: '[secret]', tls: { key: '[secret]', cert: 'ok' } });
    expect(lines()[1]).toMatchObject({ request: { headers: { host: 'ok' } } });
  });

  it('writes an error with its stack', () => {
    const { log, lines } = capture('info');
    log.error({ err: new Error('boom', { cause: new Error('deeper') }) }, 'failed');
    expect(lines()[0]?.['err']).toMatchObject({ type: 'Error', message: 'boom: deeper' });
  });
});
