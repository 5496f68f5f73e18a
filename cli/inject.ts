import { readFile } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { text as textOf } from 'node:stream/consumers';
import { UsageError, messageOf } from '../common/errors.ts';
import { type OptionTable, filePath, flag } from '../common/options.ts';
import type { Explanation } from '../webhook/inject.ts';
import { webhookOptions } from '../webhook/options.ts';
import type { CommandSpec } from './command.ts';

/** Options of `quorumbridge inject`. */
export const injectOptions = {
  filename: {
    name: 'filename',
    short: 'f',
    argument: 'FILE',
    env: 'QUORUMBRIDGE_FILENAME',
    description:
      'Manifests to read, YAML or JSON; - is standard input. The results come out in the same order.',
    repeatable: true,
    required: true,
    parse: filePath(),
  },
  explain: {
    name: 'explain',
    env: 'QUORUMBRIDGE_EXPLAIN',
    description: 'Say on standard error, for each object, why it was or was not injected.',
    parse: flag(),
  },
  image: { ...webhookOptions.proxyImage, name: 'image' },
} as const satisfies OptionTable;

export const command: CommandSpec<typeof injectOptions> = {
  name: 'inject',
  summary: 'Inject the proxy into manifests: the decision and the patch of the webhook, without a cluster.',
  options: injectOptions,
  examples: [
    {
      purpose: 'see what would change',
      command: 'quorumbridge inject -f rabbitmq.yaml | diff rabbitmq.yaml -',
    },
    { purpose: 'ask why', command: 'quorumbridge inject -f rabbitmq.yaml --explain > /dev/null' },
    { purpose: 'in a pipe', command: 'kubectl kustomize . | quorumbridge inject -f - | kubectl apply -f -' },
  ],
  async run(values, io) {
    const { injectManifests } = await import('../webhook/inject.ts');
    const { ManifestError } = await import('../webhook/manifest.ts');
    const files: { name: string; text: string }[] = [];
    for (const name of values.filename) files.push({ name, text: await readInput(name, io.stdin) });
    try {
      const { text, explanations } = await injectManifests(files, { image: values.image });
      io.stderr.write(explanations.map((each) => report(each, values.explain)).join(''));
      io.stdout.write(text);
      return 0;
    } catch (error) {
      if (!(error instanceof ManifestError)) throw error;
      for (const line of error.message.split('\n')) io.stderr.write(`quorumbridge inject: ${line}\n`);
      return 2;
    }
  },
};

async function readInput(name: string, stdin: Readable): Promise<string> {
  try {
    return name === '-' ? await textOf(stdin) : await readFile(name, 'utf8');
  } catch (error) {
    throw new UsageError(`option --filename: ${name} can not be read (${messageOf(error)})`, {
      cause: error,
    });
  }
}

/** The explanation of one object, and the warnings that the webhook would send with its answer. */
function report(
  { file, document, object, decision, isChanged, warnings }: Explanation,
  isExplained: boolean,
): string {
  const where = `${file}: document ${document}: ${object}`;
  const lines = isExplained
    ? [`${where}: ${outcome(decision.inject, isChanged)}: ${decision.message} [${decision.reason}]`]
    : [];
  lines.push(...warnings.map((warning) => `${where}: warning: ${warning}`));
  return lines.map((line) => `${line}\n`).join('');
}

function outcome(inject: 'yes' | 'no' | 'keep', isChanged: boolean): string {
  if (inject === 'yes') return isChanged ? 'injected' : 'injected already';
  if (inject === 'no') return isChanged ? 'proxy removed' : 'not injected';
  return isChanged ? 'proxy kept' : 'left alone';
}
