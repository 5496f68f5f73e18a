import { encodeStartOk, type Tune } from '../../amqp/connection.ts';
import packageJson from '../../package.json' with { type: 'json' };
import { INITIAL_FRAME_MAX } from '../negotiation.ts';
import { MAX_COLLECTED } from '../relay.ts';

/** What a client said in connection.start-ok (AMQP 0-9-1 section 1.4.2.2), to be said to the broker again. */
export interface Credentials {
  /** The SASL mechanism, such as PLAIN. */
  readonly mechanism: string;
  /** The SASL response: it holds the password. */
  readonly response: Uint8Array;
  readonly locale: string;
  /** Whose login it is, where the response tells. */
  readonly user: string | undefined;
}

/**
 * connection.start-ok for the broker.
 * @param name the connection_name, which the management UI shows
 */
export function startOk(credentials: Credentials, name: string): Uint8Array {
  const properties = {
    product: 'Quorumbridge',
    version: packageJson.version,
    platform: `Node ${process.versions.node}`,
    connection_name: name,
    capabilities: {
      authentication_failure_close: true,
      'connection.blocked': true,
      'basic.nack': true,
      publisher_confirms: true,
      consumer_cancel_notify: true,
      exchange_exchange_bindings: true,
    },
  };
  return encodeStartOk(properties, credentials);
}

/** The highest channel that there can be. */
const CHANNEL_MAX = 0xffff;

/**
 * What to answer to the broker's connection.tune: its frame_max, bounded, since a frame that a read cuts in two is held; its
 * channel_max; and the shorter heartbeat.
 * @param heartbeat seconds wanted; 0 is none, whatever the broker proposes
 */
export function agreeOnTune(proposed: Tune, heartbeat: number): Tune {
  const theirs = proposed.heartbeat === 0 ? heartbeat : proposed.heartbeat;
  return {
    channelMax: proposed.channelMax === 0 ? CHANNEL_MAX : proposed.channelMax,
    frameMax: proposed.frameMax === 0 ? INITIAL_FRAME_MAX : Math.min(proposed.frameMax, MAX_COLLECTED),
    heartbeat: Math.min(heartbeat, theirs),
  };
}
