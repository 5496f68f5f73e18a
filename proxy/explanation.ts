import { type Declare, plainDeclare } from './declare.ts';
import type { Explanation } from './explain.ts';
import { MEANING } from './meaning.ts';
import { type BrokerVersion, formatVersion } from './version.ts';

/** An explanation for people. @param declare what the client sends */
export function explanationText(
  { method }: Declare,
  { decided, steps, changes, isRewritten, sent, atRunTime }: Explanation,
  broker: BrokerVersion,
): string {
  const lines = [`${method} on RabbitMQ ${formatVersion(broker)}`];
  if (decided !== undefined) lines.push(`rule: ${decided.name} (${decided.where}): ${decided.what}`);
  if (!isRewritten) lines.push('nothing changes:');
  else lines.push('what the proxy does:');
  const reasons = steps.length > 0 ? steps : ['it is as the rules want it already'];
  lines.push(...indented(reasons));
  if (changes.length > 0) {
    lines.push('what changes in meaning:');
    lines.push(...indented(changes.map((change) => `${change}: ${MEANING[change]}`)));
  }
  lines.push('what the broker gets:', ...indented([JSON.stringify(plainDeclare(sent))]));
  if (atRunTime !== undefined) lines.push('at run time:', ...indented([atRunTime]));
  return lines.map((line) => `${line}\n`).join('');
}

function indented(lines: readonly string[]): string[] {
  return lines.map((line) => `  ${line}`);
}

/** An explanation for programs: one JSON object. @param declare what the client sends */
export function explanationJson(
  declare: Declare,
  { decided, steps, changes, isRewritten, sent, atRunTime }: Explanation,
  broker: BrokerVersion,
): string {
  const value = {
    broker: formatVersion(broker),
    declared: plainDeclare(declare),
    rule: decided ?? null,
    rewritten: isRewritten,
    steps,
    changes: changes.map((change) => ({ change, meaning: MEANING[change] })),
    sent: plainDeclare(sent),
    atRunTime: atRunTime ?? null,
  };
  return `${JSON.stringify(value, null, 2)}\n`;
}
