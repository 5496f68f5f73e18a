// `npm run manifests`: brings the generated files below manifests/ up to date (the CRD by common/crd.ts, the chart's
// templates and dashboard by the kustomize base and its components) and renders dist/install.yaml, the one file for `kubectl apply -f`.
import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { promisify } from 'node:util';
import { parseAllDocuments, stringify } from 'yaml';
import { RABBITMQ_CRD } from '../../common/crd.ts';
import { chartTemplates } from './chart.ts';
import type { KubeObject } from './kube-api.ts';
import { HOME } from './processes.ts';

const run = promisify(execFile);
const MAX_OUTPUT = 16 * 1024 * 1024;

export const MANIFESTS = join(HOME, 'manifests');
const CHART = join(MANIFESTS, 'chart');
const RELEASE = 'quorumbridge';

/** The files below manifests/ that are made: their texts by their paths there. */
export function generatedFiles(): Map<string, string> {
  const crd = `# Made by \`npm run manifests\` from common/crd.ts.\n${stringify(RABBITMQ_CRD, { lineWidth: 100 })}`;
  const templates = [...chartTemplates()].map(([name, text]) => [`chart/templates/${name}`, text] as const);
  // Helm reads only what is in the chart.
  const dashboard = readFileSync(join(MANIFESTS, 'components/monitoring/dashboard.json'), 'utf8');
  return new Map([
    ['crd/rabbitmqs.yaml', crd],
    ['chart/crds/rabbitmqs.yaml', crd],
    ['chart/dashboard.json', dashboard],
    ...templates,
  ]);
}

/** A folder with helm and kubectl, fetched when the cache has none; rejects with the reason where that can't be done. */
export async function fetchManifestTools(): Promise<string> {
  try {
    const { stdout } = await run(join(HOME, 'test/support/manifest-tools.sh'));
    return stdout.trim();
  } catch (error) {
    const { stderr = '' } = error as { stderr?: string };
    throw new Error(stderr.trim().split('\n').at(-1) || String(error), { cause: error });
  }
}

async function tool(
  name: 'helm' | 'kubectl',
  args: readonly string[],
  kubeconfig = '/dev/null',
): Promise<string> {
  const program = join(await fetchManifestTools(), name);
  // Neither is to see the user's clusters, repositories and plugins.
  const env = { PATH: process.env['PATH'], HOME: join(HOME, 'dist'), KUBECONFIG: kubeconfig };
  try {
    return (await run(program, args, { cwd: HOME, env, maxBuffer: MAX_OUTPUT })).stdout;
  } catch (error) {
    const { stderr = '', stdout = '' } = error as { stderr?: string; stdout?: string };
    throw new Error(`${name} ${args.join(' ')}: ${stderr}${stdout}`.trim(), { cause: error });
  }
}

/** What `kubectl kustomize` makes of a folder, as text. */
export async function kustomize(folder: string): Promise<string> {
  return tool('kubectl', ['kustomize', folder]);
}

/** The chart and its values as arguments of helm: `a.b=text` each, or `a.b:=JSON`. */
function chartArgs(values: readonly string[], namespace: string): string[] {
  const set = values.flatMap((value) =>
    value.includes(':=') ? ['--set-json', value.replace(':=', '=')] : ['--set', value],
  );
  return [RELEASE, CHART, '--namespace', namespace, ...set];
}

/** What `helm template` makes of the chart with these values, as text: `a.b=text` each, or `a.b:=JSON`. */
export async function helmTemplate(values: readonly string[], namespace: string): Promise<string> {
  return tool('helm', ['template', ...chartArgs(values, namespace), '--include-crds']);
}

/** `helm install` or `helm upgrade` with these values, in the cluster of a kubeconfig. */
export async function helmApply(
  kubeconfig: string,
  verb: 'install' | 'upgrade',
  values: readonly string[],
  namespace: string,
): Promise<string> {
  const more = verb === 'install' ? ['--create-namespace'] : [];
  return tool('helm', [verb, ...chartArgs(values, namespace), ...more], kubeconfig);
}

/** `helm uninstall`, in the cluster of a kubeconfig. */
export async function helmUninstall(kubeconfig: string, namespace: string): Promise<string> {
  return tool('helm', ['uninstall', RELEASE, '--namespace', namespace], kubeconfig);
}

/** `helm lint --strict`; rejects with its complaints. */
export async function helmLint(): Promise<string> {
  return tool('helm', ['lint', '--strict', CHART]);
}

/** The objects of a stream of YAML documents. */
export function objectsOf(text: string): KubeObject[] {
  return parseAllDocuments(text)
    .map((document) => {
      if (document.errors.length > 0) throw document.errors[0]!;
      return document.toJS() as KubeObject | null;
    })
    .filter((object) => object !== null);
}

/** The text of dist/install.yaml. */
export async function installFile(): Promise<string> {
  return kustomize(join(MANIFESTS, 'overlays/self-signed'));
}

if (import.meta.main) {
  for (const [path, text] of generatedFiles()) {
    const file = join(MANIFESTS, path);
    let before = '';
    try {
      before = readFileSync(file, 'utf8');
    } catch {
      // It is new.
    }
    if (before === text) continue;
    writeFileSync(file, text);
    process.stdout.write(`${relative(HOME, file)}: written\n`);
  }
  try {
    const text = await installFile();
    mkdirSync(join(HOME, 'dist'), { recursive: true });
    writeFileSync(join(HOME, 'dist/install.yaml'), text);
    process.stdout.write(`dist/install.yaml: ${objectsOf(text).length} objects\n`);
  } catch (error) {
    process.stderr.write(`dist/install.yaml was not made: ${(error as Error).message}\n`);
    process.exitCode = 1;
  }
}
