import { Pair, isAlias, isMap, isScalar, isSeq } from 'yaml';
import type { Document, Node, ParsedNode } from 'yaml';
import type { Operation } from 'fast-json-patch';
import { same, valueAt } from '../common/kube/json.ts';
import type { Json } from '../common/kube/types.ts';

/** A YAML document with its comments and styles. */
export type YamlDocument = Document.Parsed;

/** The plain value of a document; merge keys and aliases are followed. Throws what the YAML library does. */
export function valueOf(document: YamlDocument): Json {
  return document.toJS({ maxAliasCount: 1000 }) as Json;
}

/**
 * Applies a patch to the nodes of a document, so that comments and styles beside the edits stay. Where anchors or merge
 * keys are in the way of that, the whole content is written anew.
 * @param after the document's whole value with the patch applied.
 */
export function editDocument(document: YamlDocument, patch: Operation[], after: Json): void {
  const before = valueOf(document);
  const isEdited = patch.every((operation) => applyOperation(document, operation, before));
  if (!isEdited || !isResult(document, after))
    document.contents = document.createNode(after) as unknown as ParsedNode;
}

function isResult(document: YamlDocument, after: Json): boolean {
  try {
    return same(valueOf(document), after);
  } catch {
    return false;
  }
}

function stepsOf(pointer: string): string[] {
  return pointer
    .split('/')
    .slice(1)
    .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'));
}

/** False when the operation can't be done on the nodes. */
function applyOperation(document: YamlDocument, operation: Operation, before: Json): boolean {
  if (operation.op !== 'add' && operation.op !== 'replace' && operation.op !== 'remove') return false;
  const steps = stepsOf(operation.path);
  const key = steps.pop();
  const holder = key === undefined ? undefined : collectionAt(document, steps, before);
  if (key === undefined || holder === undefined) return false;
  if (operation.op === 'remove') return holder.delete(isSeq(holder) ? Number(key) : key);
  const value = operation.value as Json;
  if (isSeq(holder)) {
    const index = key === '-' ? holder.items.length : Number(key);
    holder.items.splice(index, operation.op === 'replace' ? 1 : 0, document.createNode(value));
    return true;
  }
  const old = holder.get(key, true);
  // A text that stays a text keeps its style and the comment after it.
  if (isScalar(old) && typeof old.value === 'string' && typeof value === 'string') old.value = value;
  else if (holder.has(key)) holder.set(key, document.createNode(value));
  else holder.add(new Pair(document.createNode(key), document.createNode(value)));
  return true;
}

/** The map or list at `steps`; undefined when there is none or when it is also reached by an alias. */
function collectionAt(
  document: YamlDocument,
  steps: string[],
  before: Json,
): ReturnType<typeof asCollection> {
  let node = asCollection(document.contents);
  const path: (string | number)[] = [];
  for (const step of steps) {
    if (node === undefined || node.anchor !== undefined) return undefined;
    const index = isSeq(node) ? Number(step) : step;
    path.push(index);
    const next: unknown = isSeq(node) ? node.items[Number(step)] : node.get(step, true);
    if (isAlias(next) || (next === undefined && valueAt(before, ...path) !== undefined)) return undefined;
    node = asCollection(next);
  }
  return node?.anchor === undefined ? node : undefined;
}

function asCollection(node: unknown) {
  return isMap(node) || isSeq(node) ? node : undefined;
}

/** The place of a field in the text, from 0: of the nearest thing above it that is there. */
export function offsetOf(document: YamlDocument, path: (string | number)[]): number | undefined {
  let offset = document.contents?.range?.[0];
  for (let depth = 1; depth <= path.length; depth++) {
    const node = document.getIn(path.slice(0, depth), true) as Node | undefined;
    if (node?.range === undefined || node.range === null) break;
    offset = node.range[0];
  }
  return offset;
}

/** True when the document writes the dashes of lists inside a map below the map's own keys. */
export function hasIndentedLists(text: string): boolean {
  const match = /^( *)[^\s#-][^\n]*:[ \t]*(?:#[^\n]*)?\n(?:[ \t]*(?:#[^\n]*)?\n)*( *)- /m.exec(text);
  return match === null || match[2]!.length > match[1]!.length;
}
