// Which image of RabbitMQ a version has.
import { UPGRADE_ANNOTATION } from '../common/contract.ts';
import { parseReference, parseVersionTag, versionOfImage } from '../common/image.ts';
import { parseVersion, type Version } from '../common/version.ts';

/** `why` is for people and names the way out. */
export type ImageChoice =
  | { readonly ok: true; readonly image: string }
  | { readonly ok: false; readonly why: string };

export interface ImageSources {
  /** The version to run. */
  readonly version: string;
  /** The annotation UPGRADE_ANNOTATION.targetImage of the RabbitMq. */
  readonly annotation: string | undefined;
  /** spec.image of the RabbitmqCluster; undefined where the operator chooses. */
  readonly clusterImage: string | undefined;
  /** What the RabbitMq's spec names. */
  readonly specImages: readonly (string | undefined)[];
}

/** Behind a version, what says that it was not one yet. */
const PRERELEASE = /^-(?:alpha|beta|rc)[.-]?\d*(?=$|[-_])/;
/** At the end of a tag, which build of the image it is: another version has other builds. */
const BUILD = /[-_]r\d+$/;

const WAY_OUT = `name the image by the annotation ${UPGRADE_ANNOTATION.targetImage} of the RabbitMq`;

/**
 * The image that a version runs by: what the annotation names, else what the spec names if its tag fits, else the one that
 * runs with the version of its tag exchanged. It is never a guess: what can't be told is refused, for by the time that
 * a kubelet can't pull an image the old cluster is gone.
 */
export function imageFor({ version, annotation, clusterImage, specImages }: ImageSources): ImageChoice {
  const wanted = parseVersion(version);
  if (wanted === undefined)
    return refused(`${quoted(version)} is no version, expected one such as 4.2 or 4.2.1`);
  if (annotation !== undefined) return annotated(annotation, wanted, version);
  const named = [...specImages, clusterImage].find((image) => image !== undefined && fits(image, wanted));
  if (named !== undefined) return { ok: true, image: named };
  if (clusterImage === undefined) return { ok: true, image: `rabbitmq:${version}-management` };
  return exchanged(clusterImage, version);
}

function annotated(image: string, wanted: Version, version: string): ImageChoice {
  const field = `the annotation ${UPGRADE_ANNOTATION.targetImage}`;
  if (parseReference(image) === undefined)
    return refused(`${field} is ${quoted(image)}, expected [REGISTRY/]NAME[:TAG][@DIGEST]`);
  const has = versionOfImage(image);
  if (has === undefined || isVersion(has, wanted)) return { ok: true, image };
  return refused(
    `${field} is ${quoted(image)}, by its tag RabbitMQ ${has}, and the target is ${version}: change the one or the other`,
  );
}

function exchanged(image: string, version: string): ImageChoice {
  const reference = parseReference(image);
  if (reference === undefined)
    return refused(`spec.image of the RabbitmqCluster, ${quoted(image)}, is no image: ${WAY_OUT}`);
  const tag = parseVersionTag(reference.tag);
  const which = `the image of ${version} can't be told from ${quoted(image)}, which runs`;
  if (reference.digest !== undefined) return refused(`${which}: it is named by a digest; ${WAY_OUT}`);
  if (tag === undefined) return refused(`${which}: its tag does not begin with a version; ${WAY_OUT}`);
  const suffix = tag.suffix.replace(PRERELEASE, '');
  if (BUILD.test(suffix)) return refused(`${which}: its tag names a build of that version; ${WAY_OUT}`);
  return { ok: true, image: `${reference.name}:${tag.prefix}${version}${suffix}` };
}

/** True for an image whose tag says that it is that version; of a version without a patch every patch is. */
function fits(image: string, wanted: Version): boolean {
  const tag = parseVersionTag(parseReference(image)?.tag);
  return tag !== undefined && !PRERELEASE.test(tag.suffix) && isVersion(tag.version, wanted);
}

function isVersion(text: string, wanted: Version): boolean {
  const has = parseVersion(text);
  const isPatch = wanted.patch === undefined || has?.patch === wanted.patch;
  return has?.major === wanted.major && has.minor === wanted.minor && isPatch;
}

function refused(why: string): ImageChoice {
  return { ok: false, why };
}

function quoted(text: string): string {
  return JSON.stringify(text.length > 120 ? `${text.slice(0, 120)}…` : text);
}
