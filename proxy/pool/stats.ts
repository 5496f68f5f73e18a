/**
 * Why a connection to the broker failed or was lost: there was nobody to connect to, the handshake took too long, the
 * broker refused the login, it closed the connection with a word, the connection broke, nothing came for two heartbeat
 * intervals, or what came was not AMQP.
 */
export const POOL_ENDS = [
  'unreachable',
  'timeout',
  'refused',
  'closed',
  'lost',
  'silent',
  'protocol',
] as const;

export type PoolEnd = (typeof POOL_ENDS)[number];

/** What pool mode counts: plain fields like those of `Stats`, of which this is a part. All zero in the other modes. */
export class PoolStats {
  /** Connections to the broker that are open now: those that clients share, and those that one client has to itself. */
  sharedConnections = 0;
  privateConnections = 0;
  /** Connections to the broker that came to be open (connection.open-ok). */
  connectionsOpened = 0;
  /** Connections that were open and ended without the proxy's will, by why. */
  readonly connectionsLost = zeros();
  /** Connections that never came to be open, by why. */
  readonly connectionsFailed = zeros();
  /** Channels open at the broker now: those that belong to a client's channel, and those that wait to be used again. */
  channelsUsed = 0;
  channelsIdle = 0;
  /** Channels opened at the broker (channel.open sent), and idle ones that were given to a client's channel instead. */
  channelsOpened = 0;
  channelsReused = 0;
  /** Clients' channels that wait for a channel at the broker now. */
  waiting = 0;
  /** Waits that ended without one, by `--pool-wait-timeout`. */
  waitTimeouts = 0;
  /** Logins of clients: proven by the broker, proven by a connection that is open already, and refused by the broker. */
  loginsProven = 0;
  loginsKnown = 0;
  loginsRefused = 0;
  /** Clients whose channels were moved to a connection of their own, since what they did belongs to one. */
  moved = 0;
  /** Identities whose next connections get a connection of their own. */
  quarantined = 0;
  /** Channels that were made anew after a loss: without state at the broker, and with consumers or deliveries (`--resume`). */
  restored = 0;
  resumed = 0;
  /** Publishes without an answer at a loss, which were nacked to the clients. */
  publishesNacked = 0;
  /** Clients whose connection was closed with 320 since the loss took state that can't be made anew. */
  clientsLost = 0;
}

function zeros(): Record<PoolEnd, number> {
  return Object.fromEntries(POOL_ENDS.map((end) => [end, 0])) as Record<PoolEnd, number>;
}
