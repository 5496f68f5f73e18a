// Which way leads from one version of RabbitMQ to another.
import { compareVersions, parseVersion, type Version } from '../common/version.ts';

/**
 * `same`: nothing is to be done. `patch`: the pods roll, storage stays. `wipe`: storage is emptied and the cluster made anew.
 * `why` is for people and names the way out.
 */
export type VersionPath =
  | { readonly ok: true; readonly kind: 'same' | 'patch' | 'wipe' }
  | { readonly ok: false; readonly why: string };

/** The cluster operator has never run an older one. */
const OLDEST: Version = { major: 3, minor: 8, patch: undefined };

/**
 * How to come from the version that runs to the wanted one. As storage is emptied and what is in it brought back through the
 * management API, every newer version can be reached in one go; an older one, which may not know what a newer one saved,
 * cannot. A target without a patch is met by every patch.
 */
export function versionPath(from: string, to: string): VersionPath {
  const [runs, wanted] = [parseVersion(from), parseVersion(to)];
  if (runs === undefined) {
    return refused(
      `the version that runs is ${quoted(from)}, expected one such as 3.9 or 4.2.1: remove status.currentVersion ` +
        '(kubectl edit --subresource=status), it is then found anew',
    );
  }
  if (wanted === undefined)
    return refused(`the target is ${quoted(to)}, expected a version such as 4.2 or 4.2.1`);
  for (const [version, text] of [[runs, from] as const, [wanted, to] as const]) {
    if (compareVersions(version, OLDEST) < 0)
      return refused(`RabbitMQ ${text} is older than 3.8, which is the first that the cluster operator runs`);
  }
  const order = compareVersions(wanted, runs);
  if (order < 0) {
    return refused(
      `RabbitMQ ${to} is older than ${from}, which runs, and could not read what that saved: set the target to ${from} or a later one`,
    );
  }
  if (runs.major !== wanted.major || runs.minor !== wanted.minor) return { ok: true, kind: 'wipe' };
  return { ok: true, kind: wanted.patch === undefined || wanted.patch === runs.patch ? 'same' : 'patch' };
}

function refused(why: string): VersionPath {
  return { ok: false, why };
}

function quoted(text: string): string {
  return JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}…` : text);
}

/** True for a way from 3.x to 4.x or later, on which clients begin to need the proxy. */
export function isThreeToFour(from: string, to: string): boolean {
  return parseVersion(from)?.major === 3 && isFourOrLater(to);
}

/** True for 4.0 and all that is newer; false for what is no version. */
export function isFourOrLater(text: string): boolean {
  return (parseVersion(text)?.major ?? 0) >= 4;
}

/** True when both name the same version, with the same patch or both without one: 4.2 and 4.2.1 differ. */
export function sameTarget(a: string, b: string): boolean {
  const [one, other] = [parseVersion(a), parseVersion(b)];
  if (one === undefined || other === undefined) return a === b;
  return compareVersions(one, other) === 0 && one.patch === other.patch;
}
