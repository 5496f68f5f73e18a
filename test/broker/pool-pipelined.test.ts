import { connect } from 'amqplib';
import { once } from 'node:events';
import net from 'node:net';
import { expect, it } from 'vitest';
import { encodeOpen, encodeStartOk, encodeTuneOk } from '../../amqp/connection.ts';
import { queueDeclare } from '../support/amqp-frames.ts';
import { basicPublish, channelOpen, connectionClose } from '../support/amqp-methods.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { HEADER } from '../support/peers.ts';
import { useProxiedBroker } from '../support/proxied-broker.ts';

const DURABLE = 2;

/** All that a client has to say once it has been let in: it waits for no answer to any of it. */
function conversation(queue: string, body: string): Buffer {
  return Buffer.concat([
    encodeTuneOk({ channelMax: 100, frameMax: 131_072, heartbeat: 0 }),
    encodeOpen('/'),
    channelOpen(1),
    queueDeclare({ channel: 1, name: queue, flags: DURABLE }),
    basicPublish(1, queue, body),
    connectionClose(),
  ]);
}

const LOGIN = { mechanism: 'PLAIN', response: Buffer.from('\0guest\0guest'), locale: 'en_US' };

/** Logs in, sends the rest in one write and waits for connection.close-ok. @returns class.method of what the peer said */
async function talk(port: number, rest: Buffer): Promise<string[]> {
  const socket = net.connect({ host: '127.0.0.1', port });
  let said = Buffer.alloc(0);
  for (const octets of [HEADER, encodeStartOk({ product: 'pipelined' }, LOGIN), rest]) {
    socket.write(octets);
    const [chunk] = (await once(socket, 'data')) as [Buffer];
    said = Buffer.concat([said, chunk]);
  }
  while (methodsIn(said).at(-1) !== CLOSE_OK) {
    const [chunk] = (await once(socket, 'data')) as [Buffer];
    said = Buffer.concat([said, chunk]);
  }
  socket.destroy();
  return methodsIn(said);
}

/** Of the frames that are whole. */
function methodsIn(octets: Buffer): string[] {
  const methods: string[] = [];
  for (let at = 0; at + 11 < octets.length; at += octets.readUInt32BE(at + 3) + 8) {
    if (octets[at] === 1) methods.push(`${octets.readUInt16BE(at + 7)}.${octets.readUInt16BE(at + 9)}`);
  }
  return methods;
}

const CLOSE_OK = '10.51';

const ANSWERS = ['10.10', '10.30', '10.41', '20.11', '50.11', CLOSE_OK];

await describeBrokers(['4.0', '4.3'], (version) => {
  const proxied = useProxiedBroker(version, {}, { mode: 'pool' });

  it('answers a client that waits for no answer as the broker does, the first of its login and those after it', async () => {
    for (const queue of ['first', 'second', 'third']) {
      expect(await talk(proxied.through, conversation(queue, `to ${queue}`))).toEqual(ANSWERS);
    }
    expect(await talk(proxied.direct, conversation('direct', 'to direct'))).toEqual(ANSWERS);
    const connection = await connect(`amqp://guest:guest@127.0.0.1:${proxied.direct}`);
    const channel = await connection.createChannel();
    const bodies: string[] = [];
    for (const queue of ['first', 'second', 'third', 'direct']) {
      const message = await channel.get(queue, { noAck: true });
      bodies.push(message === false ? '' : message.content.toString());
    }
    await connection.close();
    expect(bodies).toEqual(['to first', 'to second', 'to third', 'to direct']);
  });
});
