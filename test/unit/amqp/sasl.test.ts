import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readStartOk, withLogin, withMechanisms, readMechanisms } from '../../../amqp/connection.ts';
import { WireError } from '../../../amqp/error.ts';
import { encodePlain, readAmqplain, readPlain } from '../../../amqp/sasl.ts';
import { type Entry, encodeTable, entry, longstr, method, shortstr } from '../../support/amqp-frames.ts';
import { start } from '../../support/upstream-broker.ts';

function login(user: string, password: string | Buffer): { user: string; password: Uint8Array } {
  return { user, password: new Uint8Array(Buffer.from(password)) };
}

/** A table without its length. */
function table(...entries: Entry[]): Buffer {
  return encodeTable(entries).subarray(4);
}

describe('a response of PLAIN', () => {
  it.each([
    ['\0nova\0secret', login('nova', 'secret')],
    ['nova\0nova\0secret', login('nova', 'secret')],
    ['\0n\u00f6va \ufeff\0p\u00e4ss:\u{1f511}', login('n\u00f6va \ufeff', 'p\u00e4ss:\u{1f511}')],
    ['\0nova\0', login('nova', '')],
    ['\0\0', login('', '')],
  ])('%j has a user and a password', (response, expected) => {
    expect(readPlain(Buffer.from(response))).toEqual(expected);
  });

  it.each([
    '',
    'nova',
    '\0nova',
    'nova\0secret',
    '\0nova\0secret\0',
    '\0nova\0sec\0ret',
    'admin\0nova\0secret',
    `\0${'n'.repeat(256)}\0secret`,
  ])('%j is none', (response) => {
    expect(readPlain(Buffer.from(response))).toBeUndefined();
  });

  it('has a password of any octets, and a user of UTF-8 only', () => {
    expect(readPlain(Buffer.from('\0nova\0\xff\xfe', 'latin1'))).toEqual(
      login('nova', Buffer.of(0xff, 0xfe)),
    );
    expect(readPlain(Buffer.from('\0nov\xe4\0secret', 'latin1'))).toBeUndefined();
  });

  it('is read as it is written', () => {
    expect(readPlain(encodePlain('n\u00f6va', 'p\u00e4ss'))).toEqual(login('n\u00f6va', 'p\u00e4ss'));
  });
});

describe('a response of AMQPLAIN', () => {
  const name = entry('LOGIN', longstr('nova'));
  const password = entry('PASSWORD', longstr('secret'));

  it('has a user and a password, in any order and beside others', () => {
    const other = entry('OTHER', { tag: 't', value: 1 });
    for (const response of [table(name, password), table(other, password, name)])
      expect(readAmqplain(response)).toEqual(login('nova', 'secret'));
  });

  it.each([
    ['without a user', table(password)],
    ['without a password', table(name)],
    ['with two users', table(name, password, entry('LOGIN', longstr('admin')))],
    ['with two passwords', table(name, password, password)],
    ['with a user of another type', table(entry('LOGIN', { tag: 'I', value: 7 }), password)],
    ['with other octets', Buffer.from('no table')],
    ['that is cut off', table(name, password).subarray(0, -1)],
    ['of nothing', Buffer.alloc(0)],
  ])('%s is none', (_name, response) => {
    expect(readAmqplain(response)).toBeUndefined();
  });
});

it('responses of whatever octets are read or not, and nothing else', () => {
  const octets = fc.oneof(fc.uint8Array(), fc.uint8Array({ max: 2 }));
  fc.assert(
    fc.property(octets, (response) => {
      for (const read of [readPlain, readAmqplain]) {
        const { user = '', password = [] } = read(response) ?? {};
        if (Buffer.byteLength(user) + password.length > response.length) return false;
      }
      return true;
    }),
  );
});

describe('a login in the place of another', () => {
  const response = (text: string): Buffer => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(Buffer.byteLength(text));
    return Buffer.concat([length, Buffer.from(text)]);
  };
  const startOk = (mechanism: string, text: string): Buffer => {
    const properties = encodeTable([
      entry('product', longstr('test')),
      entry('odd', { tag: 't', value: 7 }),
      entry('odd', { tag: 'L', value: 1n }),
    ]);
    const args = [properties, shortstr(mechanism), response(text), shortstr('en_US')];
    return method(0, 10, 11, Buffer.concat(args));
  };

  it.each([
    ['EXTERNAL', ''],
    ['PLAIN', '\0nova\0secret'],
    ['AMQPLAIN', 'x'.repeat(300)],
    ['', ''],
  ])('leaves every other octet of connection.start-ok as it is: %s', (mechanism, text) => {
    const frame = startOk(mechanism, text);
    const edited = withLogin(frame, 'PLAIN', encodePlain('broker', 'pass'));
    expect(Buffer.from(edited)).toEqual(startOk('PLAIN', '\0broker\0pass'));
    expect(readStartOk(edited).locale).toBe('en_US');
  });

  it('is refused where connection.start-ok is cut off', () => {
    const frame = startOk('PLAIN', '\0nova\0secret');
    const ends = Array.from({ length: frame.length - 8 - 12 }, (_, at) => 12 + at);
    const accepted = ends.filter((end) => {
      const cut = Buffer.concat([frame.subarray(0, end), Buffer.of(0xce)]);
      try {
        return withLogin(cut, 'PLAIN', encodePlain('broker', 'pass')).length > 0;
      } catch (error) {
        if (error instanceof WireError) return false;
        throw error;
      }
    });
    expect(accepted).toEqual([]);
  });

  it('leaves every other octet of connection.start as it is', () => {
    for (const names of [[], ['EXTERNAL'], ['PLAIN', 'AMQPLAIN', 'EXTERNAL']]) {
      const edited = withMechanisms(start('PLAIN AMQPLAIN RABBIT-CR-DEMO'), names);
      expect(Buffer.from(edited)).toEqual(start(names.join(' ')));
      expect(readMechanisms(edited)).toEqual(names);
    }
  });
});
