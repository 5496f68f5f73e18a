import { type CertificateStats, watchCertificate } from '../common/certificate-watch.ts';
import { UsageError } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import { formatHostPort } from '../common/options.ts';
import type { SessionLimits } from './context.ts';
import { listen, type Listener, type ListenerEvents } from './listener.ts';
import { formatListen, type ListenAddress } from './options.ts';
import type { Secure, Settings } from './settings.ts';

/** How often the files of the certificate are read again, in milliseconds. */
const CERTIFICATE_INTERVAL = 10_000;

/** An address as it is opened, and as whose it is known. */
interface Entrance extends ListenAddress {
  readonly scheme: 'amqp' | 'amqps';
}

export interface EntrancesSettings {
  readonly events: (tls: boolean) => ListenerEvents;
  /** May change. */
  readonly times: SessionLimits;
  readonly certificate: CertificateStats;
  readonly log: Logger;
}

/** Where clients connect: the listeners, and the certificate that those with TLS have. */
export class Entrances {
  readonly #settings: EntrancesSettings;
  /** By what {@link entrancesOf} calls them. */
  readonly #listeners = new Map<string, Listener>();
  #unwatch: (() => void) | undefined;
  #isClosed = false;

  constructor(settings: EntrancesSettings) {
    this.#settings = settings;
  }

  get listeners(): Listener[] {
    return [...this.#listeners.values()];
  }

  /**
   * Opens what isn't open yet, serves with the certificate, and stops listening where that isn't asked for any more;
   * connections go on. All of it is done, or nothing.
   * @throws UsageError when an address can't be listened on, or OpenSSL refuses the certificate
   */
  async use({ options, secure }: Pick<Settings, 'options' | 'secure'>): Promise<void> {
    const { events, times } = this.#settings;
    const wanted = entrancesOf(options.listen, secure);
    const opened = new Map<string, Listener>();
    try {
      for (const [name, { scheme, ...at }] of wanted) {
        if (this.#listeners.has(name)) continue;
        this.#refuseTaken(at.port === 0 ? '' : formatHostPort(at), name);
        const tls = scheme === 'amqps' ? secure : undefined;
        opened.set(name, await listen(at, tls, events(tls !== undefined), times));
      }
      if (this.#isClosed) throw new UsageError('the proxy ends: it listens nowhere any more');
      if (secure !== undefined) this.#serveWith(secure);
    } catch (error) {
      for (const listener of opened.values()) listener.close();
      throw error;
    }
    for (const [name, listener] of this.#listeners) {
      if (wanted.has(name)) continue;
      listener.close();
      this.#listeners.delete(name);
    }
    for (const [name, listener] of opened) this.#listeners.set(name, listener);
    this.#watch(secure);
  }

  /** One address can't be plain and encrypted at once, and a moment without either is a refused connection. */
  #refuseTaken(address: string, name: string): void {
    for (const other of this.#listeners.keys()) {
      if (!other.endsWith(`//${address}`)) continue;
      throw new UsageError(
        `option --listen: ${name} can't take the place of ${other} while the proxy runs: that needs a restart`,
      );
    }
  }

  #serveWith(secure: Secure): void {
    for (const listener of this.#listeners.values()) {
      try {
        listener.serveWith(secure);
      } catch (error) {
        throw new UsageError(`option --tls-cert: OpenSSL refuses it: ${String(error)}`, { cause: error });
      }
    }
  }

  #watch(secure: Secure | undefined): void {
    this.#unwatch?.();
    this.#unwatch = undefined;
    if (secure === undefined) return;
    const { log, certificate } = this.#settings;
    this.#unwatch = watchCertificate({
      source: async () => secure.read(),
      initial: secure.files,
      intervalMs: CERTIFICATE_INTERVAL,
      log,
      stats: certificate,
      use: (files) => {
        for (const listener of this.#listeners.values()) listener.serveWith({ ...secure, files });
      },
    });
  }

  /** Stops listening; connections go on. */
  close(): void {
    this.#isClosed = true;
    this.#unwatch?.();
    for (const listener of this.#listeners.values()) listener.close();
  }
}

/** What is asked for, by its address with its scheme and, where the same is asked for again, a number. */
function entrancesOf(addresses: readonly ListenAddress[], secure: Secure | undefined): Map<string, Entrance> {
  const entrances = new Map<string, Entrance>();
  for (const address of addresses) {
    const scheme = address.scheme ?? (secure === undefined ? 'amqp' : 'amqps');
    const entrance: Entrance = { ...address, scheme };
    let name = formatListen(entrance);
    for (let n = 2; entrances.has(name); n++) name = `${formatListen(entrance)} ${n}`;
    entrances.set(name, entrance);
  }
  return entrances;
}
