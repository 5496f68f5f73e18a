// What happens to the proxies and to the broker during a soak, one after the other, again and again.
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import tls from 'node:tls';
import { messageOf } from '../../../common/errors.ts';
import type { Broker } from '../../support/broker.ts';
import { generateCerts } from '../../support/generated-certs.ts';
import { Chance } from './chance.ts';
import type { Crowd } from './crowd.ts';
import type { Faults } from './faults.ts';
import type { SoakProxy } from './proxy.ts';

/** Between the begins of two events, and between the end of one and the begin of the next. */
const INTERVAL_MS = { most: 24_000, perMinute: 8000, least: 3000 };
/** How long a proxy may take to see what is new: it looks every ten seconds. */
const SEEN_TIMEOUT_MS = 60_000;
/** How long clients may take to get on again; most of it is for a broker that starts on a busy machine. */
const GETS_ON_TIMEOUT_MS = 180_000;

export const EVENTS = {
  rotation: 'certificate rotations',
  reload: 'reloads',
  restart: 'broker restarts',
  mistake: 'refused reloads',
  kill: 'broker kills',
} as const;

export type EventName = keyof typeof EVENTS;

const ORDER = Object.keys(EVENTS) as EventName[];

export interface TurmoilSettings {
  readonly seed: number;
  readonly minutes: number;
  readonly broker: Broker;
  readonly proxies: readonly SoakProxy[];
  readonly crowd: Crowd;
  readonly faults: Faults;
  /** The folder with the authority and what it signed. */
  readonly certificates: string;
  readonly tell: (line: string) => void;
}

/** Makes certificates in a folder, by the authority that is there already, or by a new one. */
export function makeCertificates(folder: string, isFirst: boolean): Promise<Record<string, string>> {
  const own = isFirst
    ? []
    : [`--ca=${join(folder, 'ca.crt')}`, `--ca-key=${join(folder, 'ca.key')}`, '--force'];
  return generateCerts(folder, '--host=localhost', '--host=127.0.0.1', ...own);
}

export class Turmoil {
  /** How often each has happened. */
  readonly counts: Record<EventName, number> = { rotation: 0, reload: 0, restart: 0, mistake: 0, kill: 0 };
  /** The longest time from the broker's end until all clients got on, in milliseconds. */
  longestStorm = 0;
  readonly #settings: TurmoilSettings;
  readonly #chance: Chance;
  readonly #events: Record<EventName, () => Promise<string>> = {
    rotation: () => this.#rotate(),
    reload: () => this.#reload(),
    restart: () => this.#restart(),
    mistake: () => this.#mistake(),
    kill: () => this.#kill(),
  };

  constructor(settings: TurmoilSettings) {
    this.#settings = settings;
    this.#chance = new Chance(settings.seed, 'turmoil');
  }

  /** Lets it happen until the deadline (of `performance.now()`), and each event once in any case. */
  async run(deadline: number, stop: AbortSignal): Promise<void> {
    const { minutes } = this.#settings;
    const interval = Math.min(INTERVAL_MS.most, minutes * INTERVAL_MS.perMinute);
    let next = performance.now() + interval;
    for (let at = 0; ; at += 1) {
      await sleep(Math.max(next - performance.now(), INTERVAL_MS.least), undefined, { signal: stop }).catch(
        () => {},
      );
      if (stop.aborted || (performance.now() > deadline && at >= ORDER.length)) return;
      next += interval;
      await this.#happen(ORDER[at % ORDER.length]!);
    }
  }

  async #happen(name: EventName): Promise<void> {
    const { faults, crowd, tell } = this.#settings;
    const began = performance.now();
    try {
      const what = await this.#events[name]();
      const stuck = await crowd.stuck(GETS_ON_TIMEOUT_MS);
      for (const client of stuck) faults.note('client', `${client} didn't get on after: ${what}`);
      const took = performance.now() - began;
      if (name === 'restart' || name === 'kill') this.longestStorm = Math.max(this.longestStorm, took);
      tell(`${what}; all got on after ${(took / 1000).toFixed(1)} s`);
      this.counts[name] += 1;
    } catch (error) {
      faults.note('event', `${EVENTS[name]}: ${messageOf(error)}`);
    } finally {
      crowd.calm();
    }
  }

  /** Another certificate of the same authority, which all proxies have to take by themselves. */
  async #rotate(): Promise<string> {
    const { certificates, proxies } = this.#settings;
    const made = await makeCertificates(certificates, false);
    const wanted = new X509Certificate(made['server.crt']!).fingerprint256;
    for (const proxy of proxies)
      await eventually(
        `${proxy.mode}: the new certificate`,
        async () => (await shown(proxy, made['ca.crt']!)) === wanted,
      );
    return 'certificates were replaced';
  }

  async #reload(): Promise<string> {
    const { proxies } = this.#settings;
    const count = this.counts.reload;
    const way = (['SIGHUP', 'POST /reload', 'the change of the file'] as const)[count % 3]!;
    for (const proxy of proxies) {
      const before = await reloads(proxy, 'applied');
      const rules = [
        { name: `soak ${count}`, match: { queue: `soak ${count} *` }, action: 'quorum', expires: '30m' },
      ];
      await proxy.configure(
        { 'max-connections': 2000 + count, 'handshake-timeout': 10 + (count % 5) },
        { rules },
      );
      if (way === 'SIGHUP') proxy.hangUp();
      if (way === 'POST /reload') await fetch(`${proxy.adminUrl}/reload`, { method: 'POST' });
      await eventually(
        `${proxy.mode}: the reload by ${way}`,
        async () => (await reloads(proxy, 'applied')) > before,
      );
    }
    return `configuration and rules were changed, told by ${way}`;
  }

  /** A configuration with a mistake: refused, and the one before stays. */
  async #mistake(): Promise<string> {
    for (const proxy of this.#settings.proxies) {
      const before = await reloads(proxy, 'refused');
      await proxy.configure({ 'max-connections': 'many' }, { rules: [{ name: 'without an action' }] });
      proxy.hangUp();
      await eventually(`${proxy.mode}: the refusal`, async () => (await reloads(proxy, 'refused')) > before);
      await proxy.configure({}, { rules: [] });
      proxy.hangUp();
      await eventually(
        `${proxy.mode}: the reload after the refusal`,
        async () => (await proxy.figures()).of('config_last_reload_successful') === 1,
      );
    }
    return 'a configuration with mistakes was refused';
  }

  async #restart(): Promise<string> {
    const { crowd, broker, tell } = this.#settings;
    crowd.storm();
    tell('the broker is restarted …');
    await broker.restart({});
    return 'the broker was restarted';
  }

  async #kill(): Promise<string> {
    const { crowd, broker, tell } = this.#settings;
    crowd.storm();
    tell('the broker is killed …');
    await broker.kill();
    await sleep(this.#chance.between(0, 2000));
    await broker.restart({});
    return 'the broker was killed and started again';
  }
}

async function reloads(proxy: SoakProxy, result: 'applied' | 'refused'): Promise<number> {
  return (await proxy.figures()).of(`config_reloads_total{result="${result}"}`);
}

/** Fingerprint of the certificate that a proxy shows. */
async function shown(proxy: SoakProxy, ca: string): Promise<string | undefined> {
  const socket = tls.connect({ host: '127.0.0.1', port: proxy.securePort, ca });
  try {
    await once(socket, 'secureConnect');
    return socket.getPeerX509Certificate()?.fingerprint256;
  } finally {
    socket.destroy();
  }
}

async function eventually(what: string, isSo: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + SEEN_TIMEOUT_MS;
  while (!(await isSo())) {
    if (performance.now() > deadline) throw new Error(`${what}: not within ${SEEN_TIMEOUT_MS / 1000} s`);
    await sleep(250);
  }
}
