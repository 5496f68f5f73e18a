// A connection of pool mode to a broker, without the pool: what it tells is kept, and time goes by when the test says so.
import { PassThrough } from 'node:stream';
import { createLogger } from '../../common/log.ts';
import { resolveOptions } from '../../common/resolve.ts';
import { createBackend } from '../../proxy/backend.ts';
import { proxyOptions } from '../../proxy/options.ts';
import { ChannelState } from '../../proxy/pool/channel-state.ts';
import type { Credentials } from '../../proxy/pool/login.ts';
import type { ChannelOwner, UpstreamChannel, UpstreamEnd } from '../../proxy/pool/upstream-channel.ts';
import { Upstream, type UpstreamSettings } from '../../proxy/pool/upstream.ts';
import { Stats } from '../../proxy/stats.ts';
import { basicPublish } from './amqp-methods.ts';

const ENDPOINTS = {
  sourceAddress: '192.0.2.7',
  sourcePort: 40_000,
  destinationAddress: '192.0.2.1',
  destinationPort: 5672,
};

export const LIMITS: UpstreamSettings['limits'] = {
  connectTimeout: 5000,
  handshakeTimeout: 4000,
  heartbeat: 0,
  channelMax: 200,
};

export function plainLogin(user = 'guest', password = 'guest'): Credentials {
  return { mechanism: 'PLAIN', response: Buffer.from(`\0${user}\0${password}`), locale: 'en_US', user };
}

export interface TestUpstream {
  readonly upstream: Upstream;
  /** What it told its pool, as words. */
  readonly events: string[];
  readonly end: () => UpstreamEnd | undefined;
  readonly stats: Stats;
  readonly log: () => Record<string, unknown>[];
}

/** Begins to connect. @param flags options of the proxy as on a command line, by camelCase property: `backend` and so on */
export function startUpstream(
  flags: Record<string, string | boolean>,
  settings: Partial<Pick<UpstreamSettings, 'credentials' | 'limits'>> = {},
): TestUpstream {
  const { values } = resolveOptions(proxyOptions, { flags, env: {} });
  const events: string[] = [];
  const destination = new PassThrough();
  let text = '';
  let ended: UpstreamEnd | undefined;
  destination.on('data', (chunk: Buffer) => (text += chunk.toString()));
  const stats = new Stats();
  const upstream = new Upstream({
    backend: createBackend(values),
    endpoints: ENDPOINTS,
    credentials: plainLogin(),
    limits: LIMITS,
    name: 'a pool',
    stats,
    log: createLogger({ name: 'proxy', level: 'debug', destination }),
    events: {
      greeted: (start) => events.push(`greeted ${start.length}`),
      authenticated: (tune) => events.push(`authenticated ${Object.values(tune).join(' ')}`),
      opened: () => events.push('opened'),
      blocked: (reason) => events.push(`blocked ${reason}`),
      idle: () => events.push('idle'),
      settled: () => events.push('settled'),
      ended: (end) => {
        ended = end;
        events.push(`ended ${end.kind}`);
      },
    },
    ...settings,
  });
  return {
    upstream,
    events,
    stats,
    end: () => ended,
    log: () =>
      text
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line) as Record<string, unknown>),
  };
}

/** A client's side: keeps what it gets. */
export class TestOwner implements ChannelOwner {
  /** How often it got something, how many octets, and how many of these were lent. */
  calls = 0;
  octets = 0;
  lentOctets = 0;
  /** Losses, blocks and what the test adds, in order. */
  readonly told: string[] = [];
  /** Called within receive. */
  onReceive: ((octets: Uint8Array, start: number, end: number, lent: boolean) => void) | undefined;

  #pieces: Buffer[] = [];

  /** The frames in order, copied. */
  get received(): Buffer {
    const all = Buffer.concat(this.#pieces);
    this.#pieces = [all];
    return all;
  }

  /** Forgets what it has got. */
  forget(): void {
    this.#pieces = [];
    this.octets = 0;
  }

  receive(octets: Uint8Array, start: number, end: number, lent: boolean): void {
    this.calls++;
    this.octets += end - start;
    if (lent) this.lentOctets += end - start;
    this.#pieces.push(Buffer.from(octets.subarray(start, end)));
    this.onReceive?.(octets, start, end, lent);
  }

  lost(channels: readonly UpstreamChannel[], end: UpstreamEnd): void {
    this.told.push(`lost ${channels.map(({ local }) => local).join(' ')}: ${end.kind}`);
  }

  blocked(reason: string | undefined): void {
    this.told.push(`blocked ${reason}`);
  }

  /** Takes a channel, whose number is the client's; throws where there is none. */
  take(upstream: Upstream, local = 1): UpstreamChannel {
    const channel = upstream.take(this, local, new ChannelState({ resume: false }));
    if (channel === undefined) throw new Error('no channel');
    return channel;
  }

  /** Sends a whole method frame, which is on the client's channel number. */
  send(channel: UpstreamChannel, frame: Buffer): void {
    channel.state.sent(frame.readUInt32BE(7), frame, 0, frame.readUInt32BE(3) + 8);
    for (let at = 0; at < frame.length; at += frame.readUInt32BE(at + 3) + 8)
      frame.writeUInt16BE(channel.number, at + 1);
    channel.upstream.send(frame);
  }

  publish(channel: UpstreamChannel, key: string, body: string, exchange = ''): void {
    this.send(channel, basicPublish(channel.local, key, body, { exchange }));
  }
}
