// What `quorumbridge dlq` tells people.
import type { ListedQueue, Purged, Redriven, Shown, ShownLetter } from './main.ts';

/** One line for each queue. */
export function listText(queues: readonly ListedQueue[]): string {
  if (queues.length === 0)
    return 'The file has no queues for dead letters: give its queues dlx_name and dlq_name.\n';
  return queues
    .map(({ name, messages, consumers, feeders }) => {
      // The broker counts those that it has not given to anybody.
      const held = consumers === 0 ? '' : `, and what its ${consumers} consumers hold`;
      const state = messages === undefined ? 'is not there' : `${messages} messages${held}`;
      return `${quoted(name)}: ${state}; dead letters of ${feeders.map(quoted).join(', ')}\n`;
    })
    .join('');
}

/** @param hasContents whether they are printed */
export function showText({ queue, found, letters }: Shown, hasContents: boolean): string {
  const head = `${quoted(queue)} holds ${found} messages${letters.length < found ? `, ${letters.length} of them are shown` : ''}.\n`;
  return head + letters.map((letter) => letterText(letter, hasContents)).join('');
}

/** The same for programs. */
export function showDocument({ queue, found, letters }: Shown, hasContents: boolean): string {
  const shown = letters.map(
    ({ position, messageId, death, rejection, redriven, octets, contentType, content }) => ({
      position,
      messageId,
      death: { ...death, at: timeOf(death.at) },
      rejection,
      redriven,
      octets,
      contentType,
      ...(hasContents ? { content: content.toString('utf8') } : {}),
    }),
  );
  return `${JSON.stringify({ queue, found, letters: shown }, null, 2)}\n`;
}

function letterText(letter: ShownLetter, hasContents: boolean): string {
  const { position, messageId, death, contentType, redriven, rejection, content } = letter;
  const { reason = 'a dead letter', queue, count = 1, at, exchange, routingKey } = death;
  const parts = [
    `${position}. ${messageId === undefined ? 'without an id' : quoted(messageId)}: ${plain(reason)}`,
    ...(queue === undefined ? [] : [` in queue ${quoted(queue)}`]),
    ...(count === 1 ? [] : [` ${count} times`]),
    ...(at === undefined ? [] : [` at ${timeOf(at)}`]),
    ...(exchange === undefined ? [] : [`, from exchange ${quoted(exchange)}`]),
    ...(routingKey === undefined ? [] : [`, routing key ${quoted(routingKey)}`]),
    `; ${letter.octets} octets`,
    ...(contentType === undefined ? [] : [` of ${plain(contentType)}`]),
    ...(redriven === 0 ? [] : [`; redriven ${redriven} times`]),
  ];
  const lines = [
    parts.join(''),
    ...(rejection === undefined ? [] : [`   reason: ${quoted(rejection)}`]),
    ...(hasContents ? [`   content: ${quoted(content.toString('utf8'))}`] : []),
  ];
  return lines.map((line) => `${line}\n`).join('');
}

/** How a redrive ended. */
export function redrivenText({
  queue,
  isDryRun,
  found,
  matched,
  redriven,
  failed,
  failures,
  ended,
}: Redriven): string {
  const verb = isDryRun ? 'would be redriven' : 'redriven';
  const counts = Object.entries(redriven);
  const lines = [
    ...(ended === undefined ? [] : [`Ended early: ${ended}. What was not redriven is in ${quoted(queue)}.`]),
    ...counts.map(([place, count]) => `${count} ${verb} to ${plain(place)}`),
    ...failures.map(
      ({ messageId, reason }) =>
        `stays: ${messageId === undefined ? 'a message without an id' : quoted(messageId)}: ${plain(reason)}`,
    ),
    ...(failed > failures.length ? [`stay: ${failed - failures.length} more`] : []),
    `${quoted(queue)} held ${found} messages: ${matched} were meant, ${sum(counts)} ${isDryRun ? 'would be' : 'are'} redriven, ${failed} ${isDryRun ? 'would stay' : 'stayed'} of them.`,
  ];
  return lines.map((line) => `${line}\n`).join('');
}

/** How a purge ended, or what it would take. */
export function purgedText({ queue, found, purged, isDone, ended }: Purged): string {
  if (!isDone)
    return `${purged} of ${found} messages in ${quoted(queue)} would be lost for good: say --yes.\n`;
  const early = ended === undefined ? '' : `Ended early: ${ended}.\n`;
  return `${early}${purged} of ${found} messages in ${quoted(queue)} are purged.\n`;
}

function sum(counts: readonly (readonly [string, number])[]): number {
  return counts.reduce((total, [, count]) => total + count, 0);
}

function timeOf(at: number | undefined): string | undefined {
  return at === undefined ? undefined : new Date(at).toISOString();
}

/** Messages are anybody's: none of their characters moves the cursor, or turns the line around. */
function plain(text: string): string {
  return text.replaceAll(
    /[\p{C}\p{Zl}\p{Zp}]/gu,
    (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`,
  );
}

function quoted(text: string): string {
  return plain(JSON.stringify(text));
}
