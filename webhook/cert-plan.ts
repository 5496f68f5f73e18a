// What the replicas do about the certificates they share: one pure decision, and what each step makes of the Secret.
// Every step is one write of one object, and whoever comes next decides from what is stored: a crash between any two
// leaves nothing to clean up, and replicas that do the same at once lose by resourceVersion.
import { type Authority, type CertState, EMPTY, type Leaf } from './cert-state.ts';

/** The trusted CAs (PEM, one by one) in a registration: one list for each of its webhooks. */
export interface Bundles {
  readonly id: string;
  readonly trusted: readonly (readonly string[])[];
}

export interface PlanSettings {
  /** Unix time in milliseconds. */
  readonly now: number;
  /** How long after it is in every caBundle a CA is trusted by every API server. */
  readonly settleMs: number;
  /** How long a new serving certificate is to last. */
  readonly leafMs: number;
  /** The names that the serving certificate must have. */
  readonly dnsNames: readonly string[];
}

/** A change of the Secret. */
export type SecretStep =
  /** Make a CA and a serving certificate and serve at once: there is nothing else to serve. */
  | 'begin'
  /** Make another serving certificate by the same CA. */
  | 'renew'
  /** Make the CA to come. */
  | 'prepare'
  /** Write down that the CA to come is in every caBundle. */
  | 'note'
  /** Write down that it is so no longer: somebody took it out. */
  | 'retract'
  /** The CA to come becomes the CA, and a serving certificate is made by it. */
  | 'promote'
  /** Forget CAs whose certificates have all ended. */
  | 'retire';

export type Step =
  | { readonly do: SecretStep }
  /** Write the caBundle of a registration. */
  | { readonly do: 'publish'; readonly id: string; readonly bundle: readonly string[] };

/** When what was made at `from` and ends at `to` is to be replaced: at two thirds of its life. */
export function dueAt({ from, to }: { readonly from: number; readonly to: number }): number {
  return from + ((to - from) * 2) / 3;
}

/** The CAs that every caBundle is to have. */
export function trusted({ ca, next, previous }: CertState, now: number): string[] {
  const all = [ca, next, ...previous].filter((one) => one !== undefined && one.to > now);
  return [...new Set(all.map((one) => one!.cert))];
}

/** Whether each webhook of each registration trusts the CA. */
export function isPublished({ cert }: Authority, bundles: readonly Bundles[]): boolean {
  return bundles.every(({ trusted }) => trusted.every((list) => list.includes(cert)));
}

function sameMembers(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((one) => b.includes(one));
}

function canSign(ca: Authority | undefined, now: number): ca is Authority {
  return ca?.key !== undefined && ca.to > now;
}

/** Whether a CA to come is worth waiting for. */
function isFresh(ca: Authority | undefined, now: number): ca is Authority {
  return canSign(ca, now) && now < dueAt(ca);
}

/** Without anything to serve there is nothing to lose: the quickest way to a certificate that lasts. */
function recover({ ca, next }: CertState, { now, settleMs }: PlanSettings): SecretStep {
  const soon = now + 2 * settleMs;
  if (canSign(ca, soon)) return 'renew';
  return canSign(next, soon) ? 'promote' : 'begin';
}

function isLeafDue(leaf: Leaf, ca: Authority, { now, leafMs, dnsNames }: PlanSettings): boolean {
  if (!canSign(ca, now)) return false;
  if (!dnsNames.every((name) => leaf.dnsNames.includes(name))) return true;
  // No certificate outlives its CA, and one that ends when the old one does is not worth a write.
  return now >= dueAt(leaf) && Math.min(now + leafMs, ca.to) > leaf.to;
}

function secretStep(
  state: CertState,
  bundles: readonly Bundles[] | undefined,
  settings: PlanSettings,
): SecretStep | undefined {
  const { now, settleMs } = settings;
  const { ca, leaf, next, previous, previousUntil } = state;
  if (ca === undefined || leaf === undefined || leaf.to <= now || ca.to <= now)
    return recover(state, settings);
  if (isLeafDue(leaf, ca, settings)) return 'renew';
  if (isFresh(next, now)) {
    const published = bundles === undefined ? undefined : isPublished(next, bundles);
    const noted = state.nextPublished;
    if (published === false && noted !== undefined) return 'retract';
    // A time that is far from now was written by a clock that is wrong.
    if (published === true && (noted === undefined || noted > now + settleMs)) return 'note';
    if (published === true && now >= noted! + settleMs) return 'promote';
  } else if (next !== undefined || ca.key === undefined || now >= dueAt(ca)) return 'prepare';
  const over = previousUntil === undefined || previousUntil <= now || previous.every(({ to }) => to <= now);
  return previous.length > 0 && over ? 'retire' : undefined;
}

/**
 * Decides what is to be done now, in this order: at most one change of the Secret, behind which all is to be decided
 * anew, and the caBundles that are not as what is stored wants them. A CA is in every caBundle before anything is
 * served by it, and stays there until the last certificate by it has ended.
 * @param state what is stored.
 * @param bundles the registrations, read before the Secret was; undefined: they could not be read.
 */
export function plan(
  state: CertState,
  bundles: readonly Bundles[] | undefined,
  settings: PlanSettings,
): Step[] {
  const change = secretStep(state, bundles, settings);
  const bundle = trusted(state, settings.now);
  const wrong = (bundles ?? []).filter(
    (one) => bundle.length > 0 && !one.trusted.every((list) => sameMembers(list, bundle)),
  );
  return [
    ...(change === undefined ? [] : [{ do: change }]),
    ...wrong.map(({ id }): Step => ({ do: 'publish', id, bundle })),
  ];
}

/** Makes certificates. */
export interface Mint {
  ca(now: number): Promise<Authority>;
  leaf(ca: Authority, dnsNames: readonly string[], now: number): Promise<Leaf>;
}

/** CAs that were trusted, without what only the present one needs. */
function retired(authorities: readonly (Authority | undefined)[], now: number): Authority[] {
  const known = new Map<string, Authority>();
  for (const one of authorities) {
    if (one !== undefined && one.to > now)
      known.set(one.cert, { cert: one.cert, from: one.from, to: one.to });
  }
  return [...known.values()];
}

function latest(...times: readonly (number | undefined)[]): number | undefined {
  const known = times.filter((time) => time !== undefined);
  return known.length === 0 ? undefined : Math.max(...known);
}

/**
 * What a step makes of the Secret.
 * @param found CAs in the caBundles that may be in use though the Secret does not have them, as when it was deleted.
 */
export async function change(
  step: SecretStep,
  state: CertState,
  mint: Mint,
  { now, settleMs, dnsNames }: PlanSettings,
  found: readonly Authority[] = [],
): Promise<CertState> {
  const { ca, leaf, next, previous, previousUntil } = state;
  switch (step) {
    case 'begin': {
      const made = await mint.ca(now);
      const before = retired([ca, ...previous, ...found], now);
      // Long enough for replicas that hold a certificate by them to see the new one.
      const until = latest(previousUntil, leaf?.to, now + 10 * settleMs);
      const kept = before.length === 0 ? {} : { previousUntil: until };
      return { ...EMPTY, ca: made, leaf: await mint.leaf(made, dnsNames, now), previous: before, ...kept };
    }
    case 'renew': {
      // Replicas of two versions, which want different names, must not take turns.
      const missing = dnsNames.some((name) => leaf !== undefined && !leaf.dnsNames.includes(name));
      const names = missing ? [...new Set([...dnsNames, ...leaf!.dnsNames])] : dnsNames;
      return { ...state, leaf: await mint.leaf(ca!, names, now) };
    }
    case 'prepare':
      return { ...state, next: await mint.ca(now), nextPublished: undefined };
    case 'note':
      return { ...state, nextPublished: now };
    case 'retract':
      return { ...state, nextPublished: undefined };
    case 'promote':
      return {
        ca: next,
        leaf: await mint.leaf(next!, dnsNames, now),
        previous: retired([ca, ...previous], now),
        previousUntil: latest(previousUntil, leaf?.to ?? now + 10 * settleMs),
      };
    case 'retire':
    default:
      return { ...state, previous: [], previousUntil: undefined };
  }
}
