import { Distribution } from '../../common/distribution.ts';
import { LatencySampler } from './latency.ts';
import { Parties } from './parties.ts';

/** Seconds: from a broker on the same machine to what --handshake-timeout allows. */
const HANDSHAKE_BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/** What is counted about clients' connections beside `Stats`, of which this is a part: plain fields like those. */
export class TelemetryStats {
  readonly parties = new Parties();
  /** Clients' channels: open now, opened since the start, and closed by whose will. */
  channelsOpen = 0;
  channelsOpened = 0;
  readonly channelsClosed = { client: 0, broker: 0, connection: 0 };
  /** Frames that ended their connection, by the name of the reply code. */
  readonly framesFailed = { client: new Map<string, number>(), broker: new Map<string, number>() };
  /** From the accepted connection to connection.open-ok, in seconds. */
  readonly handshakes = new Distribution(HANDSHAKE_BOUNDS);
  /** From a chunk read to its octets written, by where it came from. */
  readonly latency = { client: new LatencySampler(), broker: new LatencySampler() };
  /** Octets that were held when deadlines were last looked at: for clients, and for the broker. */
  bufferedForClients = 0;
  bufferedForBroker = 0;
  /** Lines of the audit log: written, and lost since they could not be written in time or at all. */
  auditWritten = 0;
  auditDropped = 0;
}
