// Keeps the certificate that the replicas of the webhook share: reads what is stored, does what cert-plan.ts says, and
// says what to serve with. Every replica does so; who comes second reads what the first one has written.
import { makeCa, makeServingCertificate } from '../certs/certificates.ts';
import { type CertificateSource, type ServingCertificate, splitPem } from '../common/certificate-watch.ts';
import { UsageError, messageOf } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import {
  type Bundles,
  type Mint,
  type PlanSettings,
  type SecretStep,
  type Step,
  change,
  isPublished,
  plan,
} from './cert-plan.ts';
import {
  type Authority,
  type CertState,
  EMPTY,
  type SecretData,
  readAuthority,
  readLeaf,
  readState,
  writeState,
} from './cert-state.ts';
import type { WebhookStats } from './metrics.ts';

/** A Secret as it was read. `origin` is the store's own: whoever writes gives it back. */
export interface StoredSecret {
  readonly data: SecretData;
  readonly annotations: Readonly<Record<string, string>>;
  readonly origin: unknown;
}

/** A MutatingWebhookConfiguration or ValidatingWebhookConfiguration as it was read. */
export interface Registration {
  /** Kind and name. */
  readonly id: string;
  readonly webhooks: readonly { readonly name: string; readonly caBundle: string }[];
  readonly origin: unknown;
}

/** Where the certificates are kept. Its errors say what is missing, in words for users. */
export interface CertificateStore {
  /** Namespace and name. */
  readonly secret: string;
  readSecret(): Promise<StoredSecret | undefined>;
  /** Writes unless it has changed since it was read, or is there though it was not; says whether it did. */
  writeSecret(before: StoredSecret | undefined, data: SecretData): Promise<boolean>;
  /** Those that exist. */
  readRegistrations(): Promise<Registration[]>;
  /** Writes the caBundle (PEM) of all its webhooks unless it has changed since it was read; says whether it did. */
  writeBundle(registration: Registration, bundle: string): Promise<boolean>;
}

export interface KeeperSettings {
  readonly store: CertificateStore;
  readonly dnsNames: readonly string[];
  /** How long new certificates last, in milliseconds. */
  readonly caMs: number;
  readonly leafMs: number;
  readonly log: Logger;
  readonly stats: WebhookStats;
  readonly now?: () => number;
}

const DAY_MS = 86_400_000;
/** Between two looks at what is stored; shorter for certificates that live for minutes. */
const CHECK_MS = 10_000;
/** API servers watch registrations and notice a caBundle within a second; this allows for ones that lag. */
const SETTLE_MS = 60_000;
/** Writes and lost races in one look. The longest way, a rotation without anything to wait for, takes 5. */
const ROUNDS = 10;
const MANAGED_BY_CERT_MANAGER = 'cert-manager.io/certificate-name';

/** How often to look at what is stored, in milliseconds, for certificates that last so long. */
export function checkInterval(leafMs: number): number {
  return Math.min(CHECK_MS, leafMs / 40);
}

/** How long a CA has to be in every caBundle before it is used, in milliseconds. */
export function settleTime(leafMs: number): number {
  return Math.min(SETTLE_MS, leafMs / 10);
}

const WHAT: Readonly<Record<SecretStep, string>> = {
  begin: 'made a CA and a serving certificate',
  renew: 'made a serving certificate',
  prepare: 'made the next CA, which comes into use once every caBundle has it',
  note: 'the next CA is in every caBundle',
  retract: 'the next CA was taken out of a caBundle: publishing it again',
  promote: 'the next CA is in use now, with a serving certificate by it',
  retire: 'forgot the CAs of before: all their certificates have ended',
};

class Lost extends Error {}

/** What one look read. */
interface Look {
  readonly secret: StoredSecret | undefined;
  readonly state: CertState;
  readonly registrations: Registration[] | undefined;
  readonly bundles: Bundles[] | undefined;
}

class Keeper {
  readonly #settings: KeeperSettings;
  readonly #now: () => number;
  readonly #mint: Mint;
  /** What this replica serves with, and the CA of it. */
  #held: { certificate: ServingCertificate; ca: string; to: number } | undefined;
  /** Since when a CA was seen in every caBundle, by its certificate. */
  #seen = new Map<string, number>();
  #problem = '';
  #broken = '';

  constructor(settings: KeeperSettings) {
    this.#settings = settings;
    this.#now = settings.now ?? Date.now;
    this.#mint = createMint(settings);
  }

  /** Does what is to be done; the certificate to serve with. Rejects when there is none or the Secret is out of reach. */
  async keep(): Promise<ServingCertificate> {
    let problems: string[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      problems = [];
      const look = await this.#look(problems);
      this.#hold(look);
      const again = await this.#act(look, problems);
      if (!again) break;
    }
    this.#tell(problems);
    if (this.#held === undefined) throw new Error(problems[0] ?? 'other replicas were always faster');
    return this.#held.certificate;
  }

  async #look(problems: string[]): Promise<Look> {
    const { store, log } = this.#settings;
    // Before the Secret: a caBundle is written only if nobody has since, so an older Secret never wins over a newer.
    let registrations: Registration[] | undefined;
    try {
      registrations = await store.readRegistrations();
    } catch (error) {
      problems.push(messageOf(error));
    }
    const secret = await store.readSecret();
    const owner = secret?.annotations[MANAGED_BY_CERT_MANAGER];
    if (owner !== undefined) {
      throw new UsageError(
        `option --tls-secret: cert-manager keeps the Secret ${store.secret} (Certificate ${owner}): mount it and give --tls-cert and --tls-key, or name another Secret`,
      );
    }
    const { state, broken } = secret === undefined ? { state: EMPTY, broken: [] } : readState(secret.data);
    if (broken.length > 0 && String(broken) !== this.#broken) {
      log.warn({ secret: store.secret, keys: broken }, 'the Secret holds what is no use');
    }
    this.#broken = String(broken);
    const bundles = registrations?.map(({ id, webhooks }) => ({
      id,
      trusted: webhooks.map(({ caBundle }) => splitPem(caBundle)),
    }));
    return { secret, state, registrations, bundles };
  }

  /** One step; whether to look again. */
  async #act(look: Look, problems: string[]): Promise<boolean> {
    const { dnsNames, leafMs } = this.#settings;
    const settings = { now: this.#now(), settleMs: settleTime(leafMs), leafMs, dnsNames };
    let again = false;
    for (const step of plan(look.state, look.bundles, settings)) {
      try {
        await this.#perform(step, look, settings);
        if (step.do !== 'publish') return true;
        again = true;
      } catch (error) {
        if (error instanceof Lost) return true;
        if (error instanceof UsageError) throw error;
        problems.push(messageOf(error));
        // What is published counts from the time that is stored.
        if (step.do === 'retract') return false;
      }
    }
    return again && problems.length === 0;
  }

  async #perform(step: Step, { secret, state, registrations }: Look, settings: PlanSettings): Promise<void> {
    const { store, log, stats } = this.#settings;
    if (step.do === 'publish') {
      const registration = registrations!.find(({ id }) => id === step.id)!;
      if (!(await store.writeBundle(registration, step.bundle.join('')))) throw new Lost();
      stats.caBundlePatches++;
      log.info({ registration: step.id, authorities: step.bundle.length }, 'wrote the caBundle');
      return;
    }
    const found = (registrations ?? []).flatMap(({ webhooks }) =>
      webhooks.flatMap(({ caBundle }) => splitPem(caBundle).map((cert) => readAuthority(cert))),
    );
    const known = found.filter((one) => one !== undefined);
    const next = await change(step.do, state, this.#mint, settings, known);
    if (!(await store.writeSecret(secret, writeState(next)))) throw new Lost();
    log.info({ secret: store.secret, step: step.do }, WHAT[step.do]);
  }

  /**
   * Takes what is stored into use. Where the Secret was deleted or broken, its new CA may not be in the caBundles yet:
   * what was served until then goes on being served while it is any good.
   */
  #hold({ state: { ca, leaf, next }, bundles }: Look): void {
    const now = this.#now();
    if (bundles !== undefined) {
      const published = [ca, next].filter((one) => one !== undefined && isPublished(one, bundles));
      this.#seen = new Map(published.map((one) => [one!.cert, this.#seen.get(one!.cert) ?? now]));
    }
    if (ca === undefined || leaf === undefined || leaf.to <= now) return;
    const held = this.#held;
    const since = this.#seen.get(ca.cert) ?? Infinity;
    const trusted = now >= since + settleTime(this.#settings.leafMs);
    if (held !== undefined && held.ca !== ca.cert && held.to > now && !trusted) return;
    if (held?.certificate.cert === leaf.cert) return;
    const certificate = { cert: leaf.cert, key: leaf.key, ca: ca.cert };
    this.#held = { certificate, ca: ca.cert, to: leaf.to };
  }

  #tell(problems: readonly string[]): void {
    const { log, stats } = this.#settings;
    const problem = problems.join('; ');
    if (problem !== '') stats.caBundleFailures++;
    if (problem !== '' && problem !== this.#problem) {
      log.warn({ why: problem }, 'the certificates could not be kept as they are to be');
    }
    this.#problem = problem;
  }
}

function createMint({ caMs, leafMs }: KeeperSettings): Mint {
  return {
    async ca(now) {
      const { cert, key } = await makeCa({ commonName: 'Quorumbridge webhook CA', days: caMs / DAY_MS, now });
      return readAuthority(cert, key)!;
    },
    async leaf(ca: Authority, dnsNames, now) {
      const { cert, key } = await makeServingCertificate({
        ca: { cert: ca.cert, key: ca.key! },
        dnsNames,
        ips: ['127.0.0.1', '::1'],
        days: leafMs / DAY_MS,
        now,
      }).catch((error: unknown) => {
        throw error instanceof UsageError ? new UsageError(`option --dns-name: ${error.message}`) : error;
      });
      return readLeaf(cert, key, ca)!;
    },
  };
}

/** A certificate that this replica and its siblings make, renew and publish; asked often, it does so in time. */
export function secretSource(settings: KeeperSettings): CertificateSource {
  const keeper = new Keeper(settings);
  return () => keeper.keep();
}
