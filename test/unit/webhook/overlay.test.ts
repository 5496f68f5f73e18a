import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ErlangError, parseTerms, property } from '../../../webhook/erlang.ts';
import {
  OverlayError,
  authenticationOptions,
  hasOverlay,
  spliceOverlay,
  stripOverlay,
} from '../../../webhook/overlay.ts';

const V2 = { host: '127.0.0.1', proxyProtocol: true } as const;
const KEYS = '{tcp_listeners,[{"127.0.0.1",5673}]},{ssl_listeners,[]},{proxy_protocol,true}';
const BLOCK = (content: string): string => `%% amqp-proxy:begin\n${content}\n%% amqp-proxy:end\n`;

describe('reading Erlang terms', () => {
  it.each([
    'a.',
    "'quoted \\' atom'.",
    '"a string \\" with ] } and % inside".',
    '"two" "parts".',
    '$].',
    '$\\n.',
    '$\\x{1F600}.',
    '$%.',
    '12.',
    '-1.',
    '16#ff.',
    '1_000.',
    '1.5e-3.',
    '+ 2.',
    '[].',
    '{}.',
    '[a|b].',
    '[a, {b, "c"} | [d]].',
    '<<>>.',
    '<<"x"/utf8, 1:8, 2:16/little-unsigned>>.',
    '#{}.',
    '#{a => 1, "b" => [x]}.',
    'fun lists:map/2.',
    '% only a comment',
    'a. b. % two',
    '\n\t[ % comment ]\n 1 ] .',
    'ünïcode@x_1.',
  ])('takes %j', (text) => {
    expect(parseTerms(text).every((term) => text.slice(term.start, term.end).length > 0)).toBe(true);
  });

  it.each([
    ['[', 1, 2],
    ['[a', 1, 3],
    ['[a,]', 1, 4],
    ['{rabbit, [}', 1, 11],
    ['a', 1, 2],
    ['"open', 1, 1],
    ["[\n 'open].", 2, 2],
    ['Variable.', 1, 1],
    ['#{a = 1}.', 1, 5],
    ['<<1', 1, 4],
    ['a b.', 1, 3],
    ['a.b', 1, 2],
    [']', 1, 1],
    ['[a|b,c].', 1, 5],
    ['"""\nx\n""".', 1, 1],
    ['~"sigil".', 1, 1],
  ])('refuses %j at line %i, column %i', (text, line, column) => {
    expect(() => parseTerms(text)).toThrow(
      expect.objectContaining({ name: 'ErlangError', line, column }) as Error,
    );
  });

  it('refuses nesting without end, and never throws another error, whatever the text', () => {
    expect(() => parseTerms('['.repeat(90_000))).toThrow(ErlangError);
    const alphabet = fc.constantFrom(
      '[',
      ']',
      '{',
      '}',
      '"',
      "'",
      '%',
      '\n',
      '$',
      '\\',
      '<<',
      '>>',
      '#{',
      '=>',
      '|',
      ',',
      '.',
      ' ',
      'a',
      '1',
      'fun',
      '/',
      ':',
      '-',
      '~',
    );
    fc.assert(
      fc.property(
        fc.array(alphabet, { maxLength: 40 }).map((parts) => parts.join('')),
        (text) => {
          let thrown: unknown;
          try {
            parseTerms(text);
          } catch (error) {
            thrown = error;
          }
          expect(thrown === undefined || thrown instanceof ErlangError).toBe(true);
        },
      ),
      { numRuns: 3000 },
    );
  });

  it('finds the last of two properties of a name', () => {
    const [list] = parseTerms("[{a,1},{'a',two},{b,a}].");
    expect(property(list!, 'a')?.name).toBe('two');
  });
});

describe('the overlay in advanced.config', () => {
  it.each([
    ['', BLOCK(`[{rabbit,[${KEYS}]}].`)],
    ['%% mine\n', `%% mine\n\n${BLOCK(`[{rabbit,[${KEYS}]}].`)}`],
    ['[].', `[\n${BLOCK(`{rabbit,[${KEYS}]}`)}].`],
    ['[{log,[]}].', `[{log,[]}\n${BLOCK(`,{rabbit,[${KEYS}]}`)}].`],
    ['[{rabbit,[]}].', `[{rabbit,[\n${BLOCK(KEYS)}]}].`],
    ['[{rabbit,[{a,1}]},{b,[]}].', `[{rabbit,[{a,1}\n${BLOCK(`,${KEYS}`)}]},{b,[]}].`],
    ['[{\'rabbit\', [ {a,"]"} % ]\n ]}].', `[{'rabbit', [ {a,"]"}\n${BLOCK(`,${KEYS}`)} % ]\n ]}].`],
    ['[{rabbit,[{x,1}]},{rabbit,[{y,2}]}].', `[{rabbit,[{x,1}]},{rabbit,[{y,2}\n${BLOCK(`,${KEYS}`)}]}].`],
    ['[{log,[{rabbit,[]}]}].', `[{log,[{rabbit,[]}]}\n${BLOCK(`,{rabbit,[${KEYS}]}`)}].`],
  ])('is spliced into %j', (before, after) => {
    expect(spliceOverlay(before, V2).text).toBe(after);
    expect(stripOverlay(after).text).toBe(before);
  });

  it('says that no PROXY header is to be expected when the proxy sends none', () => {
    const off = { ...V2, proxyProtocol: false };
    expect(spliceOverlay('[{rabbit,[{proxy_protocol,true}]}].', off).overlay).toContain(
      '{proxy_protocol,false}',
    );
  });

  it('names the loopback address of the other family where it is asked to', () => {
    expect(spliceOverlay('', { ...V2, host: '::1' }).overlay).toContain('{tcp_listeners,[{"::1",5673}]}');
  });

  it('leaves text without it alone', () => {
    expect(stripOverlay('[{rabbit,[]}].')).toEqual({ text: '[{rabbit,[]}].' });
    expect(hasOverlay('%% amqp-proxy is near')).toBe(false);
  });

  it.each([
    ['[{rabbit', /line 1, column 9/],
    ['{rabbit,[]}.', /exactly one list/],
    ['[]. [].', /exactly one list/],
    ['[{rabbit,none}].', /not a list/],
    ['[{rabbit,[a|b]}].', /not a list/],
    [`[].${' '.repeat(99_990)}`, /at most 100000/],
  ])('is refused a place in %.40j', (text, message) => {
    expect(() => spliceOverlay(text, V2)).toThrow(OverlayError);
    expect(() => spliceOverlay(text, V2)).toThrow(message);
  });

  it.each(['%% amqp-proxy:begin\n[].', '[].\n%% amqp-proxy:end\n', `${BLOCK('[].')}${BLOCK('[].')}`])(
    'can not be taken out when its markers were edited: %j',
    (text) => {
      expect(() => stripOverlay(text)).toThrow(/must stand there once each/);
    },
  );

  it('knows how clients prove who they are', () => {
    expect(
      authenticationOptions(
        "[{rabbit,[{auth_mechanisms,['PLAIN','EXTERNAL']},{ssl_options,[{verify,verify_peer},{fail_if_no_peer_cert,true}]}]}].",
      ),
    ).toEqual({
      verify: 'verify_peer',
      failIfNoPeerCert: 'true',
      mechanisms: ['PLAIN', 'EXTERNAL'],
    });
    expect(authenticationOptions('')).toEqual({
      verify: undefined,
      failIfNoPeerCert: undefined,
      mechanisms: undefined,
    });
  });
});
