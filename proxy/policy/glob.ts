/** Whether a whole text fits a pattern. */
export type Glob = (text: string) => boolean;

/** The parts of a pattern are code points, or one of these. */
const ANY_RUN = -1;
const ANY_ONE = -2;

/**
 * Compiles a pattern: `*` is any run of characters, also none, `?` is one character, and everything else is itself. A
 * match takes at most as many steps as the text and the pattern have characters multiplied: the texts come from clients,
 * and there is nothing that they could make it try again and again.
 */
export function compileGlob(pattern: string): Glob {
  if (!/[*?]/.test(pattern)) return (text) => text === pattern;
  const parts = Array.from(pattern, (one) =>
    one === '*' ? ANY_RUN : one === '?' ? ANY_ONE : one.codePointAt(0)!,
  );
  return (text) => matches(parts, text);
}

/** Whatever a run takes, the next one can take up: only the last run seen is ever made longer. */
function matches(parts: readonly number[], text: string): boolean {
  let part = 0;
  let at = 0;
  let run = -1;
  let runEnd = 0;
  while (at < text.length) {
    const wanted = parts[part];
    const point = text.codePointAt(at)!;
    if (wanted === ANY_RUN) {
      run = part++;
      runEnd = at;
    } else if (wanted === ANY_ONE || wanted === point) {
      part++;
      at += unitsOf(point);
    } else if (run === -1) {
      return false;
    } else {
      part = run + 1;
      runEnd += unitsOf(text.codePointAt(runEnd)!);
      at = runEnd;
    }
  }
  while (parts[part] === ANY_RUN) part++;
  return part === parts.length;
}

function unitsOf(point: number): number {
  return point > 0xffff ? 2 : 1;
}
