// References to images, and the version of RabbitMQ that a tag tells.

export interface Reference {
  /** Up to the tag: registry, port and path. */
  readonly name: string;
  readonly tag: string | undefined;
  readonly digest: string | undefined;
}

/** A tag that begins with a version. */
export interface VersionTag {
  /** "v", or nothing. */
  readonly prefix: string;
  /** 4.2 or 4.2.1. */
  readonly version: string;
  /** What is built in, with the dash in front: `-management-alpine`. */
  readonly suffix: string;
}

/** A reference as container runtimes take it (distribution's reference grammar). Their longest has some 400 characters. */
const REFERENCE =
  /^((?:[\w.-]+(?::\d+)?\/|\[[\da-fA-F:]+\](?::\d+)?\/)?[a-z\d][a-z\d._/-]*)(?::([\w][\w.-]{0,127}))?(?:@([A-Za-z\d+._-]+:[\da-fA-F]{32,}))?$/;
const MAX_LENGTH = 1000;

/** `3.13.7-management-alpine`: a version with two or three numbers and nothing, or what is built in, behind it. */
const TAG = /^(v?)(\d{1,2}\.\d{1,3}(?:\.\d{1,4})?)((?:[-_].*)?)$/;

/** The parts of a reference; undefined for what is none. */
export function parseReference(image: string): Reference | undefined {
  const match = image.length > MAX_LENGTH ? null : REFERENCE.exec(image);
  return match === null ? undefined : { name: match[1]!, tag: match[2], digest: match[3] };
}

/** The parts of a tag; undefined for one that begins with no version. */
export function parseVersionTag(tag: string | undefined): VersionTag | undefined {
  const match = TAG.exec(tag ?? '');
  return match === null ? undefined : { prefix: match[1]!, version: match[2]!, suffix: match[3]! };
}

/** The version that an image's tag begins with, as 4.2 or 4.2.1; undefined where it begins with none. */
export function versionOfImage(image: string): string | undefined {
  return parseVersionTag(parseReference(image)?.tag)?.version;
}
