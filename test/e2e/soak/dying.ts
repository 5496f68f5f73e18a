// Clients that go without a word, in the middle of what they are saying.
import { setTimeout as sleep } from 'node:timers/promises';
import { basicConsume } from '../../support/amqp-frames.ts';
import { basicPublish } from '../../support/amqp-methods.ts';
import { connectPeer, HEADER } from '../../support/peers.ts';
import { RawClient } from '../../support/raw-client.ts';
import { Chance } from './chance.ts';
import type { Part } from './clients.ts';
import type { Publication } from './ledger.ts';

const CHANNELS = [1, 2];
/** How a TLS handshake begins. */
const CLIENT_HELLO = Buffer.from('1603010200010001fc0303', 'hex');

/** Dies before it is let in. */
async function dieGreeting({ proxy, secure }: Part, chance: Chance): Promise<void> {
  const peer = await connectPeer(secure ? proxy.securePort : proxy.port);
  const said = secure ? CLIENT_HELLO : HEADER;
  peer.write(said.subarray(0, chance.between(0, said.length + 1)));
  await sleep(chance.between(0, 20));
  peer.socket.resetAndDestroy();
}

/** Publishes, perhaps consumes, and dies at any octet of it. */
async function dieTalking(part: Part, publication: Publication, chance: Chance): Promise<void> {
  const { proxy, secure, world } = part;
  const [port, options] = secure ? [proxy.securePort, { tls: { ca: world.ca } }] : [proxy.port, {}];
  await using client = await RawClient.connect(port, options);
  await client.channels(...CHANNELS);
  const { queue } = publication;
  const frames = chance.percent(30) ? [basicConsume({ channel: 1, name: queue, tag: 'dying' })] : [];
  for (let count = chance.between(1, 10); count > 0; count -= 1) {
    const { body } = publication.next(chance.between(0, 3000));
    frames.push(basicPublish(chance.oneOf(CHANNELS), queue, body.toString('latin1')));
  }
  const octets = Buffer.concat(frames);
  const cut = chance.between(1, octets.length);
  client.send(octets.subarray(0, cut));
  await sleep(chance.between(0, 20));
  if (chance.percent(50)) client.send(octets.subarray(cut, chance.between(cut, octets.length)));
  client.reset();
}

/** Comes, dies, and comes again. What it published may arrive or not. @param queue is there already */
export function keepDying(part: Part, queue: string): void {
  const { world, name } = part;
  const chance = new Chance(world.seed, name);
  const publication = world.ledger.publisher(name, queue);
  world.crowd.keep(name, world.publishing, async (getsOn) => {
    if (chance.percent(25)) await dieGreeting(part, chance);
    else await dieTalking(part, publication, chance);
    getsOn();
    await sleep(chance.between(50, 300));
  });
}
