import { FRAME_MIN_SIZE, FRAME_OVERHEAD } from '../amqp/constants.ts';
import { readChannelMax, readFrameMax, withChannelMax, withFrameMax } from '../amqp/method.ts';

/** Octets of a frame before connection.tune has set frame_max: what brokers propose, and more than any handshake needs. */
export const INITIAL_FRAME_MAX = 131_072;

/** The highest channel that there can be. */
const CHANNEL_MAX = 0xffff;

/** The smallest frame_max that RabbitMQ 4.1 and later accept. */
export const BROKER_FRAME_MIN_SIZE = 8192;

/** What client and broker have agreed on, each with the proxy. Sizes are octets; a frame_max of 0 is no limit. */
export interface Agreement extends Frames {
  /** connection.tune-ok as the broker gets it. */
  readonly tuneOk: Uint8Array;
  /** The highest channel that the client may use; the proxy has the one above it. undefined: there is none for it. */
  readonly channelMax: number | undefined;
}

interface Frames {
  /** What the client asked for by itself; 0 where that is what the proxy's own limit offered it. */
  readonly clientAsked: number;
  readonly clientFrameMax: number;
  readonly brokerFrameMax: number;
  /** Payloads of more octets don't fit the client; 0: all do. */
  readonly splitAbove: number;
  /** The broker would have refused the frame_max that the client asked for by itself. */
  readonly tooSmall: boolean;
}

/** The circumstances of a negotiation. */
export interface Setting {
  /** Whether clients share the connection to the broker. */
  readonly shared: boolean;
  /** The frame_max that the client was offered in place of the broker's, by the proxy's own limit; 0: the broker's. */
  readonly offered: number;
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
 */
export function agree(proposed: Uint8Array, clients: Uint8Array, setting: Setting): Agreement {
  const channels = agreeOnChannels(readChannelMax(proposed) || CHANNEL_MAX, clients);
  const frames = agreeOnFrames(readFrameMax(proposed), readFrameMax(clients), setting);
  const isTheirs = frames.splitAbove === 0;
  const tuneOk = isTheirs ? channels.tuneOk : withFrameMax(channels.tuneOk, frames.brokerFrameMax);
  return { ...frames, ...channels, tuneOk };
}

/**
 * The same where nothing is changed, but for what the proxy's own limit has made too small for the broker.
 * @param offered as in {@link Setting}
 */
export function overhear(proposed: Uint8Array, clients: Uint8Array, offered: number): Agreement {
  const asked = readFrameMax(clients);
  const frames = agreeOnFrames(readFrameMax(proposed), asked, { shared: false, offered });
  if (asked === offered && frames.splitAbove > 0)
    return { ...frames, tuneOk: withFrameMax(clients, frames.brokerFrameMax), channelMax: undefined };
  const { clientFrameMax } = frames;
  const unchanged = { brokerFrameMax: clientFrameMax, splitAbove: 0, tooSmall: false };
  return { ...frames, ...unchanged, tuneOk: clients, channelMax: undefined };
}

function agreeOnFrames(proposed: number, asked: number, { shared, offered }: Setting): Frames {
  const agreed = smaller(asked, proposed);
  const isLess = asked > 0 && (proposed === 0 || proposed > asked);
  const isRefused = isLess && isTooSmall(asked);
  const clientAsked = asked === offered ? 0 : asked;
  const frames = { clientAsked, clientFrameMax: agreed, tooSmall: isRefused && asked !== offered };
  if (!isRefused && !(isLess && shared)) return { ...frames, brokerFrameMax: agreed, splitAbove: 0 };
  const brokerFrameMax = shared ? proposed : Math.min(proposed || INITIAL_FRAME_MAX, INITIAL_FRAME_MAX);
  return { ...frames, brokerFrameMax, splitAbove: agreed - FRAME_OVERHEAD };
}

function isTooSmall(frameMax: number): boolean {
  return frameMax > 0 && frameMax < BROKER_FRAME_MIN_SIZE;
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
