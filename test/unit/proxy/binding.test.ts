// What queues are bound to: what is told of a frame, and that a queue that goes is unbound before.
import { expect, it } from 'vitest';
import { METHOD } from '../../../amqp/constants.ts';
import { encodeMethod } from '../../../amqp/method.ts';
import { readBinding } from '../../../proxy/binding.ts';
import { Queues } from '../../../proxy/queues.ts';
import {
  basicConsume,
  encodeTable,
  entry,
  longstr,
  queueDeclare,
  readQueueDeclare,
  shortstr,
} from '../../support/amqp-frames.ts';
import { basicCancel, queueBind, queueDelete, queueUnbind } from '../../support/amqp-methods.ts';
import { method, openThrough, type Peer, ScriptedBroker, startTestProxy } from '../../support/peers.ts';

const AUTO_DELETE = 8;
/** The channel that is the proxy's: above the client's channel_max. */
const OWN = 11;

/** The queue.unbind frame, on channel 1, for a queue.bind or queue.unbind. */
function unbindFor(frame: Buffer, declared?: string): Buffer {
  const { unbind } = readBinding(frame, declared)!;
  return Buffer.from(encodeMethod(1, METHOD.queueUnbind, Buffer.from(unbind, 'latin1')));
}

it('a queue.bind is taken back by the queue.unbind of the same names', () => {
  const unbind = queueUnbind(1, 'q', 'amq.topic', 'a.#');
  expect(unbindFor(queueBind(7, 'q', 'amq.topic', 'a.#'))).toEqual(unbind);
  expect(unbindFor(unbind)).toEqual(unbind);
});

it('names that are not ASCII, and arguments, stay as they are, whether the binding waits for an answer or not', () => {
  const names = Buffer.concat(['schlüssel', 'börse', '日'].map(shortstr));
  const table = encodeTable([entry('x-match', longstr('all'))]);
  for (const noWait of [0, 1]) {
    const bind = method(1, 50, 20, Buffer.concat([Buffer.alloc(2), names, Buffer.of(noWait), table]));
    expect(unbindFor(bind)).toEqual(method(1, 50, 50, Buffer.concat([Buffer.alloc(2), names, table])));
  }
});

it('an empty name is the queue that was declared last, and with it an empty key is its name', () => {
  expect(unbindFor(queueBind(1, '', 'e', ''), 'last')).toEqual(queueUnbind(1, 'last', 'e', 'last'));
  expect(unbindFor(queueBind(1, '', 'e', 'key'), 'last')).toEqual(queueUnbind(1, 'last', 'e', 'key'));
  expect(unbindFor(queueBind(1, 'q', 'e', ''), 'last')).toEqual(queueUnbind(1, 'q', 'e', ''));
  expect(readBinding(queueBind(1, '', 'e', ''), undefined)).toBeUndefined();
});

it('a queue.bind that is cut off is malformed', () => {
  const whole = queueBind(1, 'q', 'e', 'key');
  const cut = Buffer.concat([whole.subarray(0, whole.length - 9), Buffer.of(0xce)]);
  expect(() => readBinding(cut, undefined)).toThrow('short string cut off');
});

it('bindings of auto-delete queues are remembered, 32 of each, until they are taken back or the queue is gone', () => {
  const queues = new Queues();
  queues.bound('/', { queue: 'other', unbind: 'x' });
  expect(queues.bindingsOf('/', 'other')).toEqual([]);
  queues.declaredAutoDelete('/', 'q');
  for (let i = 0; i < 40; i++) queues.bound('/', { queue: 'q', unbind: `b${i % 36}` });
  expect(queues.bindingsOf('/', 'q')).toEqual(Array.from({ length: 32 }, (_, i) => `b${i}`));
  queues.declaredAutoDelete('/', 'q');
  queues.unbound('/', { queue: 'q', unbind: 'b0' });
  expect(queues.bindingsOf('/', 'q')).toHaveLength(31);
  queues.forget('/', 'q');
  queues.declaredAutoDelete('/', 'q');
  expect(queues.bindingsOf('/', 'q')).toEqual([]);
});

it('20,000 bindings are remembered in all, of up to 512 octets each', () => {
  const queues = new Queues();
  const bind = (number: number): void => {
    queues.declaredAutoDelete('/', `q${number}`);
    for (let i = 0; i < 32; i++) queues.bound('/', { queue: `q${number}`, unbind: `b${i}` });
  };
  for (let number = 0; number < 625; number++) bind(number);
  bind(625);
  expect(queues.bindingsOf('/', 'q624')).toHaveLength(32);
  expect(queues.bindingsOf('/', 'q625')).toEqual([]);
  queues.forget('/', 'q0');
  queues.unbound('/', { queue: 'q1', unbind: 'b0' });
  queues.unbound('/', { queue: 'q1', unbind: 'b0' });
  bind(625);
  expect(queues.bindingsOf('/', 'q625')).toHaveLength(32);
  bind(626);
  expect(queues.bindingsOf('/', 'q626')).toEqual(['b0']);
  queues.forget('/', 'q626');
  queues.declaredAutoDelete('/', 'long');
  queues.bound('/', { queue: 'long', unbind: 'x'.repeat(513) });
  expect(queues.bindingsOf('/', 'long')).toEqual([]);
});

it('an auto-delete queue loses its bindings before it is deleted, also where the broker refuses one', async () => {
  await using broker = await new ScriptedBroker().start();
  await using proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}`, drainTimeout: '0' });
  const { client, upstream } = await openThrough(broker, proxy.port, 131_072, OWN - 1);
  const passes = async (from: Peer, to: Peer, frame: Buffer): Promise<void> => {
    from.write(frame);
    expect(await to.frame()).toEqual(frame);
  };
  const opens = async (): Promise<void> => {
    expect(await upstream.frame()).toEqual(method(OWN, 20, 10, Buffer.of(0)));
    upstream.write(method(OWN, 20, 11, Buffer.alloc(4)));
  };
  const declareOk = method(OWN, 50, 11, Buffer.concat([shortstr('q'), Buffer.alloc(8)]));

  client.write(queueDeclare({ channel: 1, name: 'q', flags: AUTO_DELETE }));
  await opens();
  for (let asked = 0; asked < 2; asked++) {
    await upstream.frame();
    upstream.write(declareOk);
  }
  expect(readQueueDeclare(await upstream.frame()).flags & AUTO_DELETE).toBe(0);

  await passes(client, upstream, queueBind(1, 'q', 'gone', ''));
  await passes(client, upstream, queueBind(1, '', 'amq.topic', 'a'));
  await passes(client, upstream, queueBind(1, 'q', 'amq.topic', 'b'));
  await passes(client, upstream, queueUnbind(1, 'q', 'amq.topic', 'b'));
  await passes(client, upstream, basicConsume({ channel: 1, name: 'q', tag: 'tag', flags: 0 }));
  await passes(upstream, client, method(1, 60, 21, shortstr('tag')));
  await passes(client, upstream, basicCancel(1, 'tag'));
  await passes(upstream, client, method(1, 60, 31, shortstr('tag')));

  await upstream.frame(); // whether it has consumers
  upstream.write(declareOk);
  expect(await upstream.frame()).toEqual(queueUnbind(OWN, 'q', 'gone', ''));
  const refusal = [Buffer.of(404 >> 8, 404 & 0xff), shortstr('NOT_FOUND'), Buffer.alloc(4)];
  upstream.write(method(OWN, 20, 40, Buffer.concat(refusal)));
  expect(await upstream.frame()).toEqual(method(OWN, 20, 41));
  await opens();
  expect(await upstream.frame()).toEqual(queueUnbind(OWN, 'q', 'amq.topic', 'a'));
  upstream.write(method(OWN, 50, 51));
  expect(await upstream.frame()).toEqual(queueDelete(OWN, 'q'));
});
