import { FRAME_MIN_SIZE, FRAME_OVERHEAD } from '../amqp/constants.ts';
import { readChannelMax, readFrameMax, withChannelMax, withFrameMax } from '../amqp/method.ts';

/** Octets of a frame before connection.tune has set frame_max: what brokers propose, and more than any handshake needs. */
export const INITIAL_FRAME_MAX = 131_072;

/** The highest channel that there can be. */
const CHANNEL_MAX = 0xffff;

/** The smallest frame_max that RabbitMQ 4.1 and later accept. */
export const BROKER_FRAME_MIN_SIZE = 8192;

/** What client and broker have agreed on, each with the proxy. Sizes are octets; a frame_max of 0 is no limit. */
export interface Agreement {
  /** connection.tune-ok as the broker gets it. */
  readonly tuneOk: Uint8Array;
  /** What the client asked for. */
  readonly clientAsked: number;
  readonly clientFrameMax: number;
  readonly brokerFrameMax: number;
  /** Payloads of more octets don't fit the client; 0: all do. */
  readonly splitAbove: number;
  /** The broker would have refused the client's frame_max. */
  readonly tooSmall: boolean;
  /** The highest channel that the client may use; the proxy has the one above it. undefined: there is none for it. */
  readonly channelMax: number | undefined;
}

/**
 * Offers the client one channel less than the broker has: that one is for the proxy's own questions.
 * @param tune a complete connection.tune frame
 */
export function offer(tune: Uint8Array): Uint8Array {
  const channelMax = readChannelMax(tune) || CHANNEL_MAX;
  return channelMax > 1 ? withChannelMax(tune, channelMax - 1) : tune;
}

/**
 * The smaller of both frame_max holds (section 1.4.2.6). RabbitMQ since 4.1 ends the connection of a client that asks for
 * less than 8192: it gets its own proposal, and what is too large for the client has to be cut. On a connection that
 * clients share, whatever is less than the broker's proposal is such.
 *
 * @param proposed the broker's connection.tune, as it sent it
 * @param clients the client's connection.tune-ok
 * @param shared whether clients share the connection to the broker
 */
export function agree(proposed: Uint8Array, clients: Uint8Array, shared = false): Agreement {
  const channels = agreeOnChannels(readChannelMax(proposed) || CHANNEL_MAX, clients);
  const offered = readFrameMax(proposed);
  const asked = readFrameMax(clients);
  const agreed = smaller(asked, offered);
  const less = asked > 0 && (offered === 0 || offered > asked);
  const tooSmall = less && asked < BROKER_FRAME_MIN_SIZE;
  if (!tooSmall && !(less && shared)) {
    return {
      ...channels,
      clientAsked: asked,
      clientFrameMax: agreed,
      brokerFrameMax: agreed,
      splitAbove: 0,
      tooSmall,
    };
  }
  const upstream = shared ? offered : Math.min(offered || INITIAL_FRAME_MAX, INITIAL_FRAME_MAX);
  return {
    ...channels,
    tuneOk: withFrameMax(channels.tuneOk, upstream),
    clientAsked: asked,
    clientFrameMax: agreed,
    brokerFrameMax: upstream,
    splitAbove: agreed - FRAME_OVERHEAD,
    tooSmall,
  };
}

/** The same where nothing is changed. */
export function overhear(proposed: Uint8Array, clients: Uint8Array): Agreement {
  const asked = readFrameMax(clients);
  const agreed = smaller(asked, readFrameMax(proposed));
  return {
    tuneOk: clients,
    clientAsked: asked,
    clientFrameMax: agreed,
    brokerFrameMax: agreed,
    splitAbove: 0,
    tooSmall: false,
    channelMax: undefined,
  };
}

/** The channel above the client's last one; none where the client leaves no room, or asks for what brokers refuse. */
function agreeOnChannels(offered: number, clients: Uint8Array): Pick<Agreement, 'tuneOk' | 'channelMax'> {
  const asked = readChannelMax(clients);
  if (asked === 0 || asked >= offered) return { tuneOk: clients, channelMax: undefined };
  return { tuneOk: withChannelMax(clients, asked + 1), channelMax: asked };
}

function smaller(one: number, other: number): number {
  const limits = [one, other].filter((octets) => octets > 0);
  return limits.length === 0 ? 0 : Math.max(FRAME_MIN_SIZE, Math.min(...limits));
}
