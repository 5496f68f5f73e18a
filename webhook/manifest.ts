import { LineCounter, isScalar, parseAllDocuments } from 'yaml';
import type { YAMLError } from 'yaml';
import { isObject, valueAt } from '../common/kube/json.ts';
import { fieldName } from './refusal.ts';
import type { Json, KubeObject } from '../common/kube/types.ts';
import { hasIndentedLists, offsetOf, valueOf } from './yamledit.ts';
import type { YamlDocument } from './yamledit.ts';

/** A file of manifests: YAML with any number of documents, or JSON. */
export interface ManifestFile {
  /** As people called it; "-" is standard input. */
  name: string;
  text: string;
}

/** Input that can't be used. The message names file, document and, where there is one, line, column and field. */
export class ManifestError extends Error {
  override readonly name = 'ManifestError';
}

/** One document of a file, or the `---` and comments of an empty one. */
export interface Manifest {
  file: string;
  /** Counts from 1 in the file. */
  number: number;
  /** The text as it stands in the file, separators included. */
  text: string;
  document: YamlDocument;
  /** undefined for an empty document. */
  value: Json | undefined;
  /** The objects in it, with where they are: one, or the items of a List. */
  objects: { path: (string | number)[]; object: KubeObject }[];
  /** Names a place in the document. */
  where(path: (string | number)[]): string;
}

/** Reads a file. Throws ManifestError, which names every trouble of the file's syntax. */
export function readManifests({ name, text }: ManifestFile): Manifest[] {
  const lines = new LineCounter();
  const documents = parseAllDocuments(text, {
    lineCounter: lines,
    merge: true,
    prettyErrors: false,
    logLevel: 'error',
  });
  if (!Array.isArray(documents)) return [];
  const at = (offset: number | undefined): string => {
    if (offset === undefined) return '';
    const { line, col } = lines.linePos(offset);
    return `, line ${line}, column ${col}`;
  };
  let start = 0;
  return documents.map((document, index) => {
    const number = index + 1;
    const where = (path: (string | number)[]): string =>
      `${name}: document ${number}${at(offsetOf(document, path))}${path.length > 0 ? `: ${fieldName(path)}` : ''}`;
    const fail = (path: (string | number)[], problem: string): never => {
      throw new ManifestError(`${where(path)}: ${problem}`);
    };
    if (document.errors.length > 0) {
      const told = document.errors.map(
        (error: YAMLError) => `${name}: document ${number}${at(error.pos[0])}: ${error.message}`,
      );
      throw new ManifestError(told.join('\n'));
    }
    const end = index === documents.length - 1 ? text.length : document.range[2];
    const manifest = { file: name, number, text: text.slice(start, end), document, where };
    start = end;
    if (document.contents === null || isNothing(document))
      return { ...manifest, value: undefined, objects: [] };
    const value = plainValue(document, fail);
    return { ...manifest, value, objects: objectsIn(value, [], fail) };
  });
}

type Fail = (path: (string | number)[], problem: string) => never;

/** `---` alone, with nothing but comments. */
function isNothing(document: YamlDocument): boolean {
  const { contents } = document;
  if (contents === null) return true;
  const [start, end] = contents.range;
  return isScalar(contents) && contents.value === null && start === end;
}

function plainValue(document: YamlDocument, fail: Fail): Json {
  try {
    return valueOf(document);
  } catch (error) {
    return fail([], (error as Error).message);
  }
}

function objectsIn(value: Json, path: (string | number)[], fail: Fail): Manifest['objects'] {
  if (!isObject(value))
    return fail(path, 'it is no Kubernetes object, expected a mapping with apiVersion and kind');
  for (const key of ['apiVersion', 'kind']) {
    if (typeof value[key] !== 'string' || value[key] === '')
      fail([...path, key], 'missing or no text: write it');
  }
  if (value['kind'] === 'List' && value['apiVersion'] === 'v1') {
    const items = value['items'] ?? [];
    if (!Array.isArray(items)) return fail([...path, 'items'], 'it is no list');
    return items.flatMap((item, index) => objectsIn(item, [...path, 'items', index], fail));
  }
  const metadata = value['metadata'] ?? {};
  if (!isObject(metadata)) return fail([...path, 'metadata'], 'it is no mapping');
  return [{ path, object: { ...value, metadata } as KubeObject }];
}

/** The text of a document whose nodes were edited. */
export function editedText(manifest: Manifest): string {
  if (manifest.text.trimStart().startsWith('{')) {
    const indent = /^\{[^\n]*\n([ \t]+)"/.exec(manifest.text.trimStart())?.[1];
    if (isJson(manifest.text)) return `${JSON.stringify(valueOf(manifest.document), null, indent)}\n`;
  }
  const text = manifest.document.toString({ lineWidth: 0, indentSeq: hasIndentedLists(manifest.text) });
  return /^\.\.\.\s*$/m.test(manifest.text) && !/^\.\.\.\s*$/m.test(text) ? `${text}...\n` : text;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** "RabbitmqCluster openstack/rabbitmq". */
export function nameOf(object: KubeObject): string {
  const { namespace, name, generateName } = object.metadata;
  const own = [name, generateName].find((each) => typeof each === 'string') ?? '(no name)';
  return `${object.kind} ${typeof namespace === 'string' ? `${namespace}/` : ''}${own}`;
}

/** The namespace of an object, "default" where it names none. */
export function namespaceOf(object: KubeObject): string {
  const namespace = valueAt(object, 'metadata', 'namespace');
  return typeof namespace === 'string' && namespace !== '' ? namespace : 'default';
}
