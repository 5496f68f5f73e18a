// Objects as they come from an API server.
import { isObject } from './json.ts';
import type { Json, KubeObject } from './types.ts';

/** Whether it has what every object has. */
export function isKubeObject(value: Json): value is KubeObject {
  return (
    isObject(value) &&
    typeof value['apiVersion'] === 'string' &&
    typeof value['kind'] === 'string' &&
    isObject(value['metadata'])
  );
}

/** The lines of a watch, as they come; `onData` is called for every chunk, also for one without a whole line. */
export async function* linesOf(
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  onData: () => void,
): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of chunks) {
    onData();
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = lines.pop() ?? '';
    yield* lines.filter((line) => line !== '');
  }
}

/** The object without what is large and nobody here reads. */
export function trimmed(object: KubeObject): KubeObject {
  const { managedFields: _managed, annotations, ...metadata } = object.metadata;
  if (!isObject(annotations)) return { ...object, metadata };
  const { 'kubectl.kubernetes.io/last-applied-configuration': _applied, ...kept } = annotations;
  return { ...object, metadata: { ...metadata, annotations: kept } };
}
