import { X509Certificate } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { makeCa, makeServingCertificate } from '../../../certs/certificates.ts';
import type { CertificateSource, ServingCertificate } from '../../../common/certificate-watch.ts';
import { UsageError } from '../../../common/errors.ts';
import { checkInterval, secretSource, settleTime } from '../../../webhook/cert-keeper.ts';
import { readState, writeState } from '../../../webhook/cert-state.ts';
import { WebhookStats } from '../../../webhook/metrics.ts';
import { MemoryStore, type Operation } from './cert-store.ts';
import { readableLog } from './harness.ts';

const LEAF_MS = 1_000_000;
const CA_MS = 3_000_000;
const MUTATING = 'MutatingWebhookConfiguration quorumbridge';

/** Some replicas of the webhook over one store, and the clock that they all have. */
class Site {
  now = Date.parse('2030-01-01T00:00:00Z');
  readonly store: MemoryStore;
  readonly stats = new WebhookStats();
  readonly #log = readableLog();

  constructor(store = new MemoryStore()) {
    this.store = store;
  }

  get lines() {
    return this.#log.lines;
  }

  replica(dnsNames: readonly string[] = ['webhook.svc']): CertificateSource {
    const { store, stats } = this;
    const log = this.#log.log;
    return secretSource({ store, stats, log, dnsNames, caMs: CA_MS, leafMs: LEAF_MS, now: () => this.now });
  }

  /** What replicas did, without how they looked. */
  steps(): unknown[] {
    return this.lines
      .map(({ step, registration }) => step ?? registration)
      .filter((one) => one !== undefined);
  }

  isTrusted({ cert }: ServingCertificate): boolean {
    const leaf = new X509Certificate(cert);
    return this.store.trusted().some((pem) => {
      const ca = new X509Certificate(pem);
      const isValid = ca.validToDate.getTime() > this.now && leaf.validToDate.getTime() > this.now;
      return isValid && leaf.checkIssued(ca) && leaf.verify(ca.publicKey);
    });
  }
}

describe('a certificate that replicas share', () => {
  it('is made and published by the first one, and read by the next', async () => {
    const site = new Site();
    const first = await site.replica()();
    expect(site.steps()).toEqual(['begin', MUTATING, 'ValidatingWebhookConfiguration quorumbridge']);
    expect(site.isTrusted(first)).toBe(true);
    expect(site.stats.caBundlePatches).toBe(2);
    expect(new X509Certificate(first.cert).checkHost('webhook.svc')).toBe('webhook.svc');
    const before = site.store.operations.length;
    expect(await site.replica()()).toEqual(first);
    expect(site.store.operations.slice(before)).toEqual(['readRegistrations', 'readSecret']);
  });

  it('is one and the same though all begin at once', async () => {
    const site = new Site();
    const all = await Promise.all(Array.from({ length: 5 }, () => site.replica()()));
    expect(new Set(all.map(({ cert }) => cert)).size).toBe(1);
    expect(site.steps().filter((step) => step === 'begin')).toHaveLength(1);
    expect(site.store.operations).toContain('writeSecret?');
    expect(site.isTrusted(all[0]!)).toBe(true);
  });

  it('fills a Secret that is there and empty', async () => {
    const site = new Site();
    site.store.setSecret({ 'tls.crt': '', 'tls.key': '' });
    expect(site.isTrusted(await site.replica()())).toBe(true);
    expect(site.lines.filter(({ level }) => level === 'warn')).toEqual([]);
  });

  it('is renewed, and its CA too, without a moment in which it is not trusted', async () => {
    const site = new Site();
    const replicas = [site.replica(), site.replica(), site.replica()];
    const served = await Promise.all(replicas.map((source) => source()));
    const seen = { leaves: new Set<string>(), cas: new Set<string>() };
    const end = site.now + 3 * CA_MS;
    for (let round = 0; site.now < end; round++) {
      site.now += checkInterval(LEAF_MS);
      // The third one is late again and again: it serves with what it has.
      const awake = round % 12 < 3 ? [0, 1, 2] : [round % 2];
      await Promise.all(awake.map(async (index) => (served[index] = await replicas[index]!())));
      for (const one of served) {
        if (!site.isTrusted(one)) throw new Error(`not trusted at ${site.now}: ${site.steps().join(' ')}`);
        seen.leaves.add(String(one.cert));
        seen.cas.add(String(one.ca));
      }
    }
    expect(seen.cas.size).toBeGreaterThanOrEqual(4);
    expect(seen.leaves.size).toBeGreaterThanOrEqual(12);
    const steps = new Set(site.steps().map(String));
    expect([...steps].filter((step) => !step.includes(' ')).toSorted()).toEqual([
      'begin',
      'note',
      'prepare',
      'promote',
      'renew',
      'retire',
    ]);
    expect(site.store.trusted().length).toBeLessThanOrEqual(2);
  });

  it('is published before it is used: a CA waits in the caBundles for a tenth of a certificate, a minute at most', async () => {
    const site = new Site();
    const source = site.replica();
    const first = await source();
    // Two thirds of the CA's life.
    site.now += CA_MS * 0.67;
    const renewed = await source();
    expect(renewed.ca).toBe(first.ca);
    expect(site.store.trusted()).toHaveLength(2);
    site.now += settleTime(LEAF_MS) - 1;
    expect((await source()).ca).toBe(first.ca);
    site.now += 1;
    const after = await source();
    expect(site.store.trusted()).toEqual([first.ca, after.ca]);
    expect(settleTime(LEAF_MS)).toBe(60_000);
    expect(settleTime(20_000)).toBe(2000);
  });

  it('goes on after a crash at any point of a rotation', async () => {
    /** Runs a life of one CA with a replica that is killed at that operation, and the next one in its place. */
    const run = async (killAt: number, when: 'before' | 'after') => {
      const site = new Site();
      const killed = Promise.withResolvers<undefined>();
      const stuck = Promise.withResolvers<void>();
      let count = 0;
      site.store.hook = (_operation, now) => {
        if (now === 'before') count++;
        if (now !== when || count !== killAt) return undefined;
        count++;
        killed.resolve(undefined);
        return stuck.promise; // for ever: it does nothing more
      };
      const cas = new Set<string>();
      let source = site.replica();
      let held: ServingCertificate | undefined;
      for (let round = 0; round < 120; round++) {
        held = await Promise.race([source(), killed.promise]);
        if (held === undefined) {
          source = site.replica();
          held = await source();
        }
        if (!site.isTrusted(held)) throw new Error(`killed ${when} ${killAt}: not trusted`);
        cas.add(String(held.ca));
        site.now += 25_000;
      }
      return { site, cas, held };
    };
    const { site, cas } = await run(0, 'before');
    expect(cas.size).toBe(2);
    const writes = site.store.operations.flatMap((operation, index) =>
      operation.startsWith('write') ? [index + 1] : [],
    );
    expect(writes.length).toBeGreaterThan(10);
    for (const at of writes) {
      for (const when of ['before', 'after'] as const) {
        const after = await run(at, when);
        expect(after.cas.size).toBe(2);
        const { state, broken } = readState(after.site.store.stored!.value);
        expect([broken, state.leaf?.cert]).toEqual([[], after.held?.cert]);
      }
    }
  }, 120_000);

  it('is published again by the next look where somebody wiped it, and a rotation waits for it again', async () => {
    const site = new Site();
    const source = site.replica();
    const first = await source();
    site.now += CA_MS * 0.67;
    await source();
    site.now += settleTime(LEAF_MS);
    site.store.wipe();
    expect((await source()).ca).toBe(first.ca);
    expect(site.store.trusted()).toHaveLength(2);
    expect(site.steps().slice(-4)).toEqual([
      'retract',
      MUTATING,
      'ValidatingWebhookConfiguration quorumbridge',
      'note',
    ]);
    site.now += settleTime(LEAF_MS);
    expect((await source()).ca).not.toBe(first.ca);
  });

  it('is not lost to a replica that has read an older Secret', async () => {
    const site = new Site();
    const [fast, slow] = [site.replica(), site.replica()];
    await fast();
    await slow();
    site.store.wipe();
    let interrupted = false;
    site.store.hook = async (operation, when) => {
      if (operation !== 'writeBundle' || when !== 'before' || interrupted) return;
      interrupted = true;
      // While the slow one is about to publish what it has read, the other one goes two steps ahead.
      site.now += CA_MS * 0.67;
      await fast();
    };
    await slow();
    expect(site.store.operations).toContain('writeBundle?');
    expect(site.store.trusted()).toHaveLength(2);
  });

  it('is served on when the Secret is deleted, until the new one is trusted', async () => {
    const site = new Site();
    const [one, other] = [site.replica(), site.replica()];
    const first = await one();
    await other();
    site.store.stored = undefined;
    const before = site.lines.length;
    const after = await one();
    expect(site.lines.slice(before).map(({ step }) => step)).toContain('begin');
    expect(after).toEqual(first);
    expect(site.isTrusted(after)).toBe(true);
    let served = [after, await other()];
    while (served.some(({ cert }) => cert === first.cert)) {
      site.now += checkInterval(LEAF_MS);
      served = [await one(), await other()];
      expect(served.every((certificate) => site.isTrusted(certificate))).toBe(true);
    }
    site.now += 10 * settleTime(LEAF_MS);
    await one();
    expect(site.store.trusted()).toEqual([served[0]!.ca]);
  });

  it('carries the names of both while two versions of the webhook run', async () => {
    const site = new Site();
    const [old, young] = [site.replica(['a.svc']), site.replica(['b.svc'])];
    await old();
    const both = await young();
    expect(new X509Certificate(both.cert).subjectAltName).toContain('DNS:b.svc, DNS:a.svc');
    expect(await old()).toEqual(both);
    expect(await young()).toEqual(both);
  });
});

describe('a name that is none', () => {
  it('is an error that says which option gave it', async () => {
    const error = await new Site()
      .replica(['a b'])()
      .catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(UsageError);
    expect(String(error)).toContain('option --dns-name: "a b" is not a DNS name');
  });
});

describe('a Secret of somebody else', () => {
  const foreign = async (now: number) => {
    const ca = await makeCa({ commonName: 'foreign', days: 1, now });
    const leaf = await makeServingCertificate({ ca, dnsNames: ['webhook.svc'], ips: [], days: 0.5, now });
    return { 'ca.crt': ca.cert, 'tls.crt': leaf.cert, 'tls.key': leaf.key };
  };

  it('is left alone when it is cert-manager that keeps it', async () => {
    const site = new Site();
    site.store.setSecret(await foreign(site.now));
    site.store.annotations = { 'cert-manager.io/certificate-name': 'serving' };
    const error = await site
      .replica()()
      .catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(UsageError);
    expect(String(error)).toMatch(/--tls-secret: cert-manager keeps the Secret .* \(Certificate serving\)/);
    expect(site.store.operations).not.toContain('writeSecret');
  });

  it('is served with and then rotated away from when nobody keeps it, since its CA has no key', async () => {
    const site = new Site();
    const data = await foreign(site.now);
    site.store.setSecret(data);
    const source = site.replica();
    expect((await source()).cert).toBe(data['tls.crt']);
    expect(site.store.trusted()).toHaveLength(2);
    site.now += settleTime(LEAF_MS);
    const own = await source();
    expect(own.ca).not.toBe(data['ca.crt']);
    expect(site.isTrusted(own)).toBe(true);
  });

  it('is replaced where it is broken, and the log names its keys and never what they hold', async () => {
    const site = new Site();
    const data = await foreign(site.now);
    const other = await foreign(site.now);
    site.store.setSecret({ ...data, 'tls.key': other['tls.key'], 'next-ca.crt': 'hunter2' });
    const own = await site.replica()();
    expect(site.isTrusted(own)).toBe(true);
    expect(site.lines.find(({ level }) => level === 'warn')?.['keys']).toEqual(['tls.crt', 'next-ca.crt']);
    expect(JSON.stringify(site.lines)).not.toMatch(/hunter2|PRIVATE/);
  });
});

describe('what is not permitted', () => {
  const forbid = (store: MemoryStore, operation: Operation, message: string): void => {
    store.hook = (asked, when) => {
      if (asked === operation && when === 'before') throw new Error(message);
    };
  };

  it('is an error when it is to read or write the Secret, and there is no certificate yet', async () => {
    for (const operation of ['readSecret', 'writeSecret'] as const) {
      const site = new Site();
      forbid(site.store, operation, `grant ${operation}`);
      await expect(site.replica()()).rejects.toThrow(`grant ${operation}`);
    }
  });

  it('does not hinder serving and renewing when it is to publish; the log says it once', async () => {
    const site = new Site();
    forbid(site.store, 'writeBundle', 'grant patch');
    const source = site.replica();
    const first = await source();
    site.now += LEAF_MS * 0.7;
    const second = await source();
    expect(second.cert).not.toBe(first.cert);
    expect(second.ca).toBe(first.ca);
    const warnings = site.lines.filter(({ level }) => level === 'warn');
    expect(warnings.map(({ why }) => why)).toEqual(['grant patch; grant patch']);
    expect(site.stats.caBundleFailures).toBe(2);
    site.store.hook = () => {};
    await source();
    expect(site.isTrusted(second)).toBe(true);
  });

  it('keeps a CA in use to its end where registrations cannot be read, and then begins anew', async () => {
    const site = new Site();
    forbid(site.store, 'readRegistrations', 'grant get');
    const source = site.replica();
    const first = await source();
    for (const end = site.now + CA_MS; site.now < end - 1000; site.now += checkInterval(LEAF_MS)) {
      expect((await source()).ca).toBe(first.ca);
    }
    site.now += 2000;
    expect((await source()).ca).not.toBe(first.ca);
  });
});

describe('the Secret', () => {
  it('holds what was written to it', async () => {
    const site = new Site();
    const source = site.replica();
    await source();
    site.now += CA_MS * 0.67;
    await source();
    const during = readState(site.store.stored!.value).state;
    expect(during.nextPublished).toBe(site.now);
    expect(readState(writeState(during)).state).toEqual(during);
    site.now += settleTime(LEAF_MS);
    await source();
    const after = readState(site.store.stored!.value).state;
    expect(after.previous.map(({ cert }) => cert)).toEqual([during.ca!.cert]);
    expect(after.previousUntil).toBe(during.leaf!.to);
    expect(readState(writeState(after)).state).toEqual(after);
    const keys = ['ca.crt', 'ca.key', 'previous-ca-until', 'previous-ca.crt', 'tls.crt', 'tls.key'];
    expect(Object.keys(site.store.stored!.value).sort()).toEqual(keys);
  });
});
