import fastJsonPatch from 'fast-json-patch';
import type { Operation } from 'fast-json-patch';
import { isKind } from '../common/kube/facts.ts';
import { copy } from '../common/kube/json.ts';
import { ManifestError, editedText, nameOf, namespaceOf, readManifests } from './manifest.ts';
import type { Manifest, ManifestFile } from './manifest.ts';
import { mutate } from './mutate.ts';
import { findOwner } from './owner.ts';
import type { Get } from './owner.ts';
import type { KubeObject } from '../common/kube/types.ts';
import type { Decision, InjectionSettings } from './types.ts';
import { editDocument } from './yamledit.ts';

/** What was decided about one object. */
export interface Explanation {
  file: string;
  /** Counts from 1 in the file. */
  document: number;
  /** "RabbitmqCluster openstack/rabbitmq". */
  object: string;
  decision: Decision;
  isChanged: boolean;
  warnings: string[];
}

/** The manifests with the injection. */
export interface Injected {
  /** All files' documents in one YAML stream; documents without a change are there character by character. */
  text: string;
  explanations: Explanation[];
}

/**
 * The webhook's decision and patch on manifests: what is no RabbitmqCluster or StatefulSet passes through. RabbitMqs
 * and Namespaces among the manifests count as the webhook's look at the cluster would.
 * Throws ManifestError naming every document that can't be read or can't be given the proxy.
 */
export async function injectManifests(files: ManifestFile[], settings: InjectionSettings): Promise<Injected> {
  const read = collect(files, readManifests);
  const manifests = read.flat();
  const surroundings = surroundingsOf(manifests);
  const explanations: Explanation[] = [];
  const problems: string[] = [];
  const texts: string[][] = [];
  for (const file of read) {
    const parts: string[] = [];
    for (const manifest of file) {
      const done = await injectManifest(manifest, settings, surroundings);
      explanations.push(...done.explanations);
      problems.push(...done.problems);
      parts.push(done.text);
    }
    texts.push(parts);
  }
  if (problems.length > 0) throw new ManifestError(problems.join('\n'));
  return { text: join(texts.map((parts) => parts.join(''))), explanations };
}

/** Reads all files before it complains, so that one run shows every trouble. */
function collect(files: ManifestFile[], read: (file: ManifestFile) => Manifest[]): Manifest[][] {
  const problems: string[] = [];
  const result = files.map((file) => {
    try {
      return read(file);
    } catch (error) {
      if (!(error instanceof ManifestError)) throw error;
      problems.push(error.message);
      return [];
    }
  });
  if (problems.length > 0) throw new ManifestError(problems.join('\n'));
  return result;
}

/** The other objects among the manifests that a decision looks at. */
interface Surroundings {
  get: Get;
  namespaceOf(object: KubeObject): KubeObject | undefined;
}

function surroundingsOf(manifests: Manifest[]): Surroundings {
  const objects = manifests.flatMap((manifest) => manifest.objects.map(({ object }) => object));
  const isNamespace = (object: KubeObject): boolean =>
    object.kind === 'Namespace' && object.apiVersion === 'v1';
  return {
    get: (resource, namespace, name) =>
      Promise.resolve(
        objects.find(
          (object) =>
            isKind(object, resource) && namespaceOf(object) === namespace && object.metadata['name'] === name,
        ),
      ),
    namespaceOf: (object) =>
      objects.find((each) => isNamespace(each) && each.metadata['name'] === namespaceOf(object)),
  };
}

async function injectManifest(
  manifest: Manifest,
  settings: InjectionSettings,
  surroundings: Surroundings,
): Promise<{ text: string; explanations: Explanation[]; problems: string[] }> {
  const explanations: Explanation[] = [];
  const problems: string[] = [];
  const patch: Operation[] = [];
  for (const { path, object } of manifest.objects) {
    const owner = await findOwner(surroundings.get, object, namespaceOf(object));
    const namespace = surroundings.namespaceOf(object);
    const result = mutate({ object, owner, settings, ...(namespace === undefined ? {} : { namespace }) });
    if (!result.allowed) {
      problems.push(
        `${manifest.where([...path, ...(result.path ?? [])])}: ${nameOf(object)}: ${result.message}`,
      );
      continue;
    }
    const prefix = path.map((step) => `/${step}`).join('');
    patch.push(...result.patch.map((operation) => ({ ...operation, path: prefix + operation.path })));
    explanations.push({
      file: manifest.file,
      document: manifest.number,
      object: nameOf(object),
      decision: result.decision,
      isChanged: result.patch.length > 0,
      warnings: result.warnings,
    });
  }
  if (patch.length === 0 || problems.length > 0) return { text: manifest.text, explanations, problems };
  const after = fastJsonPatch.applyPatch(copy(manifest.value ?? null), patch).newDocument;
  editDocument(manifest.document, patch, after);
  return { text: editedText(manifest), explanations, problems };
}

/** Files after each other as one stream of documents. */
function join(files: string[]): string {
  let stream = '';
  for (const text of files) {
    if (stream !== '' && !stream.endsWith('\n')) stream += '\n';
    if (stream !== '' && !/^\s*(?:#[^\n]*\n|\n)*---(?:\s|$)/.test(text)) stream += '---\n';
    stream += text;
  }
  return stream;
}
