import { UsageError } from '../../common/errors.ts';
import { parseDuration } from '../config/duration.ts';
import type { Letter } from './letter.ts';

/** Whether a dead letter is meant. @param now milliseconds since 1970 */
export type Filter = (letter: Letter, now: number) => boolean;

/**
 * Reads `reason=WORD`, `queue=NAME`, `id=MESSAGEID`, `header.NAME=VALUE` or `older-than=DURATION`.
 * @throws UsageError for every other text
 */
export function parseFilter(text: string): Filter {
  const at = text.indexOf('=');
  const [key, value] = [text.slice(0, at), text.slice(at + 1)];
  if (at > 0) {
    if (key === 'reason') return ({ death }) => death.reason === value;
    if (key === 'queue') return ({ death }) => death.queue === value;
    if (key === 'id') return ({ messageId }) => messageId === value;
    const header = /^header\.(?<name>.+)$/s.exec(key)?.groups?.['name'];
    if (header !== undefined)
      return ({ headers }) => Object.hasOwn(headers, header) && isWritten(headers[header], value);
    const age = key === 'older-than' ? parseDuration(value) : undefined;
    // Who can't tell its age is not taken for old.
    if (age !== undefined) return ({ death }, now) => death.at !== undefined && now - death.at >= age;
  }
  throw new UsageError(
    `option --filter: ${JSON.stringify(text)} is not valid: expected reason=WORD, queue=NAME, id=MESSAGEID, header.NAME=VALUE or older-than=DURATION as in older-than=1h`,
  );
}

function isWritten(value: unknown, text: string): boolean {
  return ['string', 'number', 'boolean'].includes(typeof value) && String(value) === text;
}
