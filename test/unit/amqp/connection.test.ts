import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { entriesArbitrary } from '../../support/amqp-arbitraries.ts';
import {
  encodeTable,
  type Entry,
  entry,
  type Field,
  longstr,
  method,
  shortstr,
} from '../../support/amqp-frames.ts';
import { amidst } from '../../support/amqp-streams.ts';
import { defs } from '../../support/amqplib-defs.ts';
import {
  CLOSE_OK,
  encodeBlocked,
  encodeChannelCloseOk,
  encodeChannelOpen,
  encodeChannelOpenOk,
  encodeFlow,
  encodeFlowOk,
  encodeNack,
  encodeOpen,
  encodeStartOk,
  encodeTune,
  encodeTuneOk,
  HEARTBEAT,
  OPEN_OK,
  readBlocked,
  readMechanisms,
  readStartOk,
  readTune,
  UNBLOCKED,
} from '../../../amqp/connection.ts';
import { METHOD } from '../../../amqp/constants.ts';
import { checkMethod } from '../../../amqp/grammar.ts';
import { readVirtualHost } from '../../../amqp/method.ts';

/** A method frame as amqplib reads it; its size and end octet must be right. */
function decoded(octets: Uint8Array): { channel: number; method: number; fields: Record<string, unknown> } {
  const buffer = Buffer.from(octets);
  expect([buffer[0], buffer.readUInt32BE(3), buffer.at(-1)]).toEqual([1, buffer.length - 8, 0xce]);
  const ids = buffer.readUInt32BE(7);
  return { channel: buffer.readUInt16BE(1), method: ids, fields: defs.decode(ids, buffer.subarray(11, -1)) };
}

/** connection.start-ok of these arguments. */
function startOk(properties: readonly Entry[], mechanism = 'PLAIN', response = '\0me\0secret'): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(response.length);
  const parts = [
    encodeTable(properties),
    shortstr(mechanism),
    length,
    Buffer.from(response),
    shortstr('en_US'),
  ];
  return method(0, 10, 11, Buffer.concat(parts));
}

const yes: Field = { tag: 't', value: 1 };
const capabilities = (...value: Entry[]): Entry => entry('capabilities', { tag: 'F', value });

describe("a client's connection.start-ok", () => {
  it('is read as amqplib writes it', () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.constantFrom('PLAIN', 'EXTERNAL', 'ü'), (octets, mechanism) => {
        const clientProperties = {
          product: 'x',
          capabilities: { 'basic.nack': true, 'connection.blocked': false },
        };
        const response = Buffer.from(octets);
        const frame = defs.encodeMethod(METHOD.connectionStartOk, 0, {
          clientProperties,
          mechanism,
          response,
          locale: 'de',
        });
        const read = readStartOk(amidst(frame, 0xff));
        expect({ ...read, response: Buffer.from(read.response) }).toMatchObject({
          mechanism,
          response,
          locale: 'de',
        });
        const names = ['basic.nack', 'connection.blocked', 'publisher_confirms', 'product'];
        expect(names.filter((name) => read.has(name))).toEqual(['basic.nack']);
      }),
    );
  });

  it('leaves nothing of itself behind when its buffer is used again', () => {
    const frame = startOk([capabilities(entry('basic.nack', yes))]);
    const read = readStartOk(frame);
    frame.fill(0);
    expect(Buffer.from(read.response).toString()).toBe('\0me\0secret');
    expect(read.has('basic.nack')).toBe(true);
  });

  it.each<[string, Entry[]]>([
    ['none', []],
    ['one that is false', [capabilities(entry('basic.nack', { tag: 't', value: 0 }))]],
    ['one that is no boolean', [capabilities(entry('basic.nack', { tag: 'B', value: 1 }))]],
    ['a text for the table', [entry('capabilities', longstr('basic.nack'))]],
    ['it among the properties', [entry('basic.nack', yes)]],
  ])('with %s is not capable', (_, properties) => {
    expect(readStartOk(startOk(properties)).has('basic.nack')).toBe(false);
  });

  it('is refused when it is cut anywhere, and when octets are left over', () => {
    const args = startOk([entry('product', longstr('x'))]).subarray(11, -1);
    for (let length = 0; length < args.length; length++) {
      const cut = method(0, 10, 11, args.subarray(0, length));
      expect(() => readStartOk(cut), `${length} octets`).toThrow(expect.objectContaining({ replyCode: 502 }));
    }
    const longer = method(0, 10, 11, Buffer.concat([args, Buffer.of(0)]));
    expect(() => readStartOk(longer)).toThrow('1 octets behind connection.start-ok');
  });

  it('is refused with capabilities that are no table inside', () => {
    const broken = startOk([capabilities(entry('basic.nack', yes))]);
    broken[broken.indexOf('basic.nack') + 10] = 0x5a;
    expect(() => readStartOk(broken)).toThrow('unknown field type 0x5a');
  });

  it('is read whatever its properties are', () => {
    fc.assert(
      fc.property(entriesArbitrary, (entries) => {
        const others = entries.filter(({ key }) => key.toString() !== 'capabilities');
        const read = readStartOk(startOk([...others, capabilities(entry('x', yes))]));
        expect([read.mechanism, read.locale, read.has('x')]).toEqual(['PLAIN', 'en_US', true]);
      }),
    );
  });
});

describe('connection.start-ok of the proxy', () => {
  it('is what amqplib and the reader of a client make of it', () => {
    const response = Buffer.from('\0guest\0gästin');
    const properties = {
      product: 'Quorumbridge',
      capabilities: { 'basic.nack': true, 'connection.blocked': true },
    };
    const frame = encodeStartOk(properties, { mechanism: 'PLAIN', response, locale: 'en_US' });
    expect(decoded(frame)).toEqual({
      channel: 0,
      method: METHOD.connectionStartOk,
      fields: { clientProperties: properties, mechanism: 'PLAIN', response, locale: 'en_US' },
    });
    expect(readStartOk(frame).has('connection.blocked')).toBe(true);
    checkMethod(METHOD.connectionStartOk, frame, 0, frame.length);
  });
});

describe("a broker's connection.start", () => {
  const start = (mechanisms: string) =>
    defs.encodeMethod(METHOD.connectionStart, 0, {
      serverProperties: { product: 'RabbitMQ' },
      mechanisms: Buffer.from(mechanisms),
      locales: Buffer.from('en_US'),
    });

  it.each([
    ['PLAIN AMQPLAIN', ['PLAIN', 'AMQPLAIN']],
    [' EXTERNAL  PLAIN ', ['EXTERNAL', 'PLAIN']],
    ['', []],
  ])('with mechanisms "%s"', (mechanisms, expected) => {
    expect(readMechanisms(amidst(start(mechanisms), 0x20))).toEqual(expected);
  });

  it('is refused when it is cut off', () => {
    const args = start('PLAIN').subarray(11, -1);
    const mechanismsEnd = args.indexOf('PLAIN') + 5;
    for (let length = 0; length < mechanismsEnd; length++) {
      const cut = method(0, 10, 10, args.subarray(0, length));
      expect(() => readMechanisms(cut), `${length} octets`).toThrow(
        expect.objectContaining({ replyCode: 502 }),
      );
    }
  });
});

describe('connection.tune', () => {
  const tune = fc.record({
    channelMax: fc.nat(0xffff),
    frameMax: fc.nat(0xffff_ffff),
    heartbeat: fc.nat(0xffff),
  });

  it('and tune-ok are written for amqplib and read back', () => {
    fc.assert(
      fc.property(tune, (limits) => {
        expect(decoded(encodeTune(limits))).toEqual({
          channel: 0,
          method: METHOD.connectionTune,
          fields: limits,
        });
        expect(decoded(encodeTuneOk(limits))).toEqual({
          channel: 0,
          method: METHOD.connectionTuneOk,
          fields: limits,
        });
        expect(readTune(amidst(encodeTune(limits), 0xff))).toEqual(limits);
      }),
    );
  });

  it('is refused when it is cut off', () => {
    expect(() => readTune(method(0, 10, 30, Buffer.alloc(7)))).toThrow('connection.tune cut off');
  });
});

describe('connection.open', () => {
  it.each(['/', '', 'mandanten/größe', 'ü'.repeat(127)])('names the virtual host %j', (virtualHost) => {
    const frame = encodeOpen(virtualHost);
    expect(decoded(frame)).toEqual({
      channel: 0,
      method: METHOD.connectionOpen,
      fields: { virtualHost, capabilities: '', insist: false },
    });
    expect(readVirtualHost(frame)).toBe(virtualHost);
    checkMethod(METHOD.connectionOpen, frame, 0, frame.length);
  });

  it('is refused for a name that has grown: one read from octets that are no UTF-8', () => {
    const args = Buffer.concat([shortstr(Buffer.alloc(255, 0xff)), Buffer.alloc(2)]);
    const read = readVirtualHost(method(0, 10, 40, args));
    const error = { replyCode: 502, method: METHOD.connectionOpen, message: 'virtual host of 765 octets' };
    expect(() => encodeOpen(read)).toThrow(expect.objectContaining(error));
  });
});

describe('small frames', () => {
  it.each<[name: keyof typeof METHOD, frame: Uint8Array, channel: number, fields: Record<string, unknown>]>([
    ['connectionOpenOk', OPEN_OK, 0, { knownHosts: '' }],
    ['connectionCloseOk', CLOSE_OK, 0, {}],
    ['connectionUnblocked', UNBLOCKED, 0, {}],
    ['connectionBlocked', encodeBlocked('low on memory'), 0, { reason: 'low on memory' }],
    ['channelOpen', encodeChannelOpen(1), 1, { outOfBand: '' }],
    ['channelOpenOk', encodeChannelOpenOk(256), 256, { channelId: Buffer.alloc(0) }],
    ['channelCloseOk', encodeChannelCloseOk(0xffff), 0xffff, {}],
    ['channelFlow', encodeFlow(3, true), 3, { active: true }],
    ['channelFlow', encodeFlow(3, false), 3, { active: false }],
    ['channelFlowOk', encodeFlowOk(4, true), 4, { active: true }],
    ['channelFlowOk', encodeFlowOk(4, false), 4, { active: false }],
    ['basicNack', encodeNack(5, 7, true), 5, { deliveryTag: 7, multiple: true, requeue: false }],
    [
      'basicNack',
      encodeNack(5, 2n ** 52n, false),
      5,
      { deliveryTag: 2 ** 52, multiple: false, requeue: false },
    ],
  ])('%s is for amqplib what it says', (name, frame, channel, fields) => {
    expect(decoded(frame)).toEqual({ channel, method: METHOD[name], fields });
  });

  it('a nack names all 64 bits of its tag', () => {
    const frame = Buffer.from(encodeNack(1, 2n ** 64n - 1n, false));
    expect(frame.readBigUInt64BE(11)).toBe(2n ** 64n - 1n);
  });

  it('a heartbeat is one', () => {
    expect(Buffer.from(HEARTBEAT).toString('hex')).toBe('08000000000000ce');
  });

  it('a reason is read back, and cut between characters', () => {
    expect(readBlocked(encodeBlocked('wenig Speicher für alle'))).toBe('wenig Speicher für alle');
    expect(readBlocked(encodeBlocked('ü'.repeat(200)))).toBe('ü'.repeat(127));
    expect(() => readBlocked(method(0, 10, 60, Buffer.of(9, 0x61)))).toThrow('short string cut off');
  });
});
