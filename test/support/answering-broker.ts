import { frame, method, shortstr } from './amqp-frames.ts';
import { type Peer, ScriptedBroker, tuneArguments } from './peers.ts';
import { start } from './upstream-broker.ts';

/** A message as it came. */
export interface Published {
  /** Milliseconds of performance.now(). */
  readonly at: number;
  readonly body: string;
}

/**
 * A broker that lets everybody in, opens and closes whatever is asked, keeps what is published, and has {@link message} in
 * each queue. It confirms nothing.
 */
export class AnsweringBroker extends ScriptedBroker {
  readonly published: Published[] = [];
  heartbeats = 0;
  /** connection.tune-ok of each connection: channel_max. */
  readonly channelMaxima: number[] = [];
  /** frame_max of each connection.tune-ok. */
  readonly frameMaxima: number[] = [];
  /** Octets of published messages' bodies. */
  octets = 0;
  /** The body that basic.get brings, in one frame. */
  message: Uint8Array = new Uint8Array(0);
  /** Where each basic.consume came. */
  readonly consumers: { readonly peer: Peer; readonly channel: number }[] = [];
  /** connection.start-ok of each connection. */
  readonly startOks: Buffer[] = [];
  readonly #channelMax: number;
  readonly #mechanisms: string | undefined;

  constructor(channelMax = 2047, mechanisms?: string) {
    super();
    this.#channelMax = channelMax;
    this.#mechanisms = mechanisms;
    this.server.on('connection', () => this.#serve(this.peers.at(-1)!));
  }

  #serve(peer: Peer): void {
    let isGreeted = false;
    peer.socket.on('data', () => {
      if (!isGreeted) {
        if (peer.received.length < 8) return;
        peer.received = peer.received.subarray(8);
        isGreeted = true;
        peer.write(start(this.#mechanisms));
      }
      for (;;) {
        const size = peer.received.length < 7 ? Infinity : peer.received.readUInt32BE(3) + 8;
        if (peer.received.length < size) return;
        const octets = peer.received.subarray(0, size);
        peer.received = peer.received.subarray(size);
        this.#hear(peer, octets);
      }
    });
    peer.socket.on('end', () => peer.socket.end());
  }

  #hear(peer: Peer, octets: Buffer): void {
    const channel = octets.readUInt16BE(1);
    if (octets[0] === 8) this.heartbeats++;
    if (octets[0] === 3) {
      this.octets += octets.length - 8;
      this.published.push({ at: performance.now(), body: octets.toString('utf8', 7, octets.length - 1) });
    }
    if (octets[0] !== 1) return;
    switch (`${octets.readUInt16BE(7)}.${octets.readUInt16BE(9)}`) {
      case '10.11':
        this.startOks.push(octets);
        peer.write(method(0, 10, 30, tuneArguments(131_072, this.#channelMax)));
        break;
      case '10.31':
        this.channelMaxima.push(octets.readUInt16BE(11));
        this.frameMaxima.push(octets.readUInt32BE(13));
        break;
      case '10.40':
        peer.write(method(0, 10, 41, Buffer.of(0)));
        break;
      case '10.50':
        peer.write(method(0, 10, 51));
        break;
      case '20.10':
        peer.write(method(channel, 20, 11, Buffer.alloc(4)));
        break;
      case '20.20':
        peer.write(method(channel, 20, 21, Buffer.of(1)));
        break;
      case '20.40':
        peer.write(method(channel, 20, 41));
        break;
      case '60.20': {
        const tagAt = 14 + octets[13]!;
        this.consumers.push({ peer, channel });
        peer.write(method(channel, 60, 21, octets.subarray(tagAt, tagAt + 1 + octets[tagAt]!)));
        break;
      }
      case '85.10':
        peer.write(method(channel, 85, 11));
        break;
      case '60.70':
        peer.write(got(channel, this.message));
        break;
      default:
    }
  }
}

/** basic.get-ok with its content. */
function got(channel: number, body: Uint8Array): Buffer {
  const header = Buffer.alloc(14);
  header.writeUInt16BE(60, 0);
  header.writeBigUInt64BE(BigInt(body.length), 4);
  const names = [shortstr(''), shortstr('q')];
  const args = [Buffer.alloc(7), Buffer.of(1, 0), ...names, Buffer.alloc(4)];
  return Buffer.concat([
    method(channel, 60, 71, Buffer.concat(args)),
    frame(2, channel, header),
    frame(3, channel, body),
  ]);
}
