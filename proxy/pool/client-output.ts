import type { LinkEvents } from '../link.ts';
import type { Source } from '../outlet.ts';
import { withoutCancels } from './cancels.ts';
import type { ClientChannels } from './client-channels.ts';

export interface OutputSettings {
  readonly events: Pick<LinkEvents, 'guard' | 'receive'>;
  /** Octets that wait for the client to take them. */
  readonly backlog: () => number;
  /** So many may wait on connections that the client shares. */
  readonly maxBacklog: number;
  /** Holds the client back. */
  readonly holder: Source;
  readonly channels: () => ClientChannels | undefined;
  /** Called for whatever the client is given. */
  readonly given: () => void;
  /** More waits for the client than may. */
  readonly overflows: (text: string) => void;
}

/** What one client is given, in order: frames of the proxy's own, and the broker's. */
export class ClientOutput {
  /** Whether the client hears of basic.cancel. */
  hearsCancels = true;
  readonly #settings: OutputSettings;
  /** Frames of the proxy's own for the client. */
  readonly #said: Uint8Array[] = [];
  /** The client's octets are being taken. */
  #isTaking = false;
  /** The session is being given octets: it can't be given others before it has taken them. */
  #isGiving = false;
  /** The client hasn't taken all that it was given. */
  #isSlow = false;
  /** What the client is given now lies in a buffer that is read into again. */
  #isLent = false;
  #isStopped = false;

  constructor(settings: OutputSettings) {
    this.#settings = settings;
  }

  /** The client's octets are being taken: what is said in answer is given at {@link taken}, or by {@link giveSaid}. */
  taking(): void {
    this.#isTaking = true;
  }

  /** They have been taken. A client that asks on and doesn't read the answers is held back until it has read them. */
  taken(): void {
    this.#isTaking = false;
    const isAnswered = this.#said.length > 0;
    this.giveSaid();
    if (isAnswered && this.#isSlow) this.#settings.holder.pause();
  }

  /**
   * A frame of the proxy's own. The session gets it when what it has written is taken: its answer may be to write again.
   */
  say(frame: Uint8Array): void {
    this.#said.push(frame);
    if (!this.#isTaking && this.#said.length === 1)
      process.nextTick(() => this.#settings.events.guard(() => this.giveSaid()));
  }

  /** Gives the client what has been said so far. */
  giveSaid(): void {
    if (this.#isGiving) return;
    while (this.#said.length > 0) {
      const frames = this.#said.splice(0);
      // In one piece: what waits in a socket costs much more than its octets by the piece. A Buffer, since Node makes one of
      // any other array.
      this.#give(Buffer.concat(frames), false);
    }
  }

  /** Frames of the broker's; `lent`: valid for the call only. */
  deliver(octets: Uint8Array, lent: boolean): void {
    this.giveSaid();
    this.#give(octets, lent);
    this.giveSaid();
  }

  #give(octets: Uint8Array, lent: boolean): void {
    if (this.#isStopped) return;
    const { events, backlog, maxBacklog, channels, given, overflows } = this.#settings;
    const kept = this.hearsCancels ? octets : withoutCancels(octets);
    given();
    this.#isLent = lent;
    this.#isGiving = true;
    if (kept.length > 0) events.receive(kept, kept.length, lent && kept === octets);
    this.#isGiving = false;
    this.#isLent = false;
    if (!this.#isSlow) return;
    const octetsWaiting = backlog();
    if (octetsWaiting <= maxBacklog) return;
    if (channels()?.claim() === true) this.pause();
    else overflows(`${octetsWaiting} octets wait for the client, more than --client-backlog ${maxBacklog}`);
  }

  /** The client is behind: a connection to the broker that is its own waits for it, a shared one can't. */
  pause(): void {
    this.#isSlow = true;
    const channels = this.#settings.channels();
    if (this.#isLent) channels?.keepBuffers();
    for (const upstream of channels?.own ?? []) upstream.pauseReading();
  }

  /** The client has caught up. */
  resume(): void {
    this.#isSlow = false;
    this.#settings.holder.resume();
    for (const upstream of this.#settings.channels()?.own ?? []) upstream.resumeReading();
  }

  /** The client is gone, and given nothing more. */
  stop(): void {
    this.#isStopped = true;
    this.#settings.holder.resume();
  }
}
