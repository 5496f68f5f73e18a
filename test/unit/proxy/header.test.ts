import { describe, expect, it } from 'vitest';
import { classifyHeader, describeNoise, HEADER_SIZE, type HeaderKind } from '../../../proxy/header.ts';

/** "AMQP" and four octets. */
function header(...rest: number[]): Uint8Array {
  return Uint8Array.of(0x41, 0x4d, 0x51, 0x50, ...rest);
}

describe('the first octets of a client', () => {
  it.each<[string, Uint8Array, HeaderKind]>([
    ['AMQP 0-9-1', header(0, 0, 9, 1), 'amqp-0-9-1'],
    ['0-9-1 with the method behind it', header(0, 0, 9, 1, 1, 0, 0), 'amqp-0-9-1'],
    ['0-9-0, which brokers refuse', header(0, 0, 9, 0), 'other-amqp'],
    ['0-9-2', header(0, 0, 9, 2), 'other-amqp'],
    ['0-10, AMQP 1 1 0 10', header(1, 1, 0, 10), 'other-amqp'],
    ['0-9, AMQP 1 1 0 9', header(1, 1, 0, 9), 'amqp-0-9-1'],
    ['0-9, AMQP 1 1 9 1', header(1, 1, 9, 1), 'amqp-0-9-1'],
    ['0-8, AMQP 1 1 8 0', header(1, 1, 8, 0), 'amqp-0-9-1'],
    ['AMQP 1.0', header(0, 1, 0, 0), 'other-amqp'],
    ['AMQP 1.0 by SASL', header(3, 1, 0, 0), 'other-amqp'],
    ['AMQP 1.0 by TLS', header(2, 1, 0, 0), 'other-amqp'],
    ['AMQP 1 0 9 1, which is no version', header(1, 0, 9, 1), 'other-amqp'],
    ['a version to come', header(0, 0, 10, 0), 'other-amqp'],
    ['HTTP', Buffer.from('GET / HTTP/1.1\r\n'), 'noise'],
    ['a TLS handshake', Uint8Array.of(0x16, 3, 1), 'noise'],
    ['amqp in small letters', Buffer.from('amqp\0\0\x09\x01'), 'noise'],
    ['AMQP with another last letter', Buffer.from('AMQQ\0\0\x09\x01'), 'noise'],
  ])('are known: %s', (_name, octets, kind) => {
    expect(classifyHeader(octets)).toBe(kind);
  });

  it('are waited for as long as they may become a header', () => {
    const whole = header(0, 0, 9, 1);
    for (let length = 0; length < HEADER_SIZE; length++) {
      expect(classifyHeader(whole.subarray(0, length)), `${length} octets`).toBe('more');
    }
  });

  it('are known to be noise by the first octet that differs', () => {
    for (let at = 0; at < 4; at++) {
      const octets = header().subarray(0, at + 1);
      octets[at]! ^= 0x20;
      expect(classifyHeader(octets)).toBe('noise');
    }
  });
});

describe('noise in the log', () => {
  const tlsHello = Uint8Array.of(0x16, 3, 1, 2, 0, 1, 0, 1);

  it.each<[string, Uint8Array, boolean, string]>([
    [
      'TLS on a plain listener',
      tlsHello,
      false,
      'the client speaks TLS to a plain listener: use an amqps:// listener or its port',
    ],
    [
      'TLS within TLS',
      tlsHello,
      true,
      'the client does not begin with an AMQP protocol header but with 16 03 01 02 00 01 00 01',
    ],
    ...['GET /', 'POST /x', 'HEAD / HTTP', 'PUT /', 'OPTIONS * HTTP/1.1'].map(
      (request): [string, Uint8Array, boolean, string] => [
        request,
        Buffer.from(request),
        false,
        'the client speaks HTTP to an AMQP listener',
      ],
    ),
    [
      'anything else, of which it has 8 octets at most',
      Buffer.from('hello world'),
      false,
      'the client does not begin with an AMQP protocol header but with 68 65 6c 6c 6f 20 77 6f',
    ],
    [
      'a single octet',
      Uint8Array.of(0),
      false,
      'the client does not begin with an AMQP protocol header but with 00',
    ],
  ])('is described: %s', (_name, octets, tls, text) => {
    expect(describeNoise(octets, tls)).toBe(text);
  });
});
