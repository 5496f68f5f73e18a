/** How many letters have to be added, taken away, exchanged or swapped with their neighbour to make one text of the other. */
function distance(a: string, b: string): number {
  const rows = [Array.from({ length: b.length + 1 }, (_, column) => column)];
  for (let row = 1; row <= a.length; row += 1) {
    rows[row] = [row];
    for (let column = 1; column <= b.length; column += 1) {
      const isSame = a[row - 1] === b[column - 1];
      let least = Math.min(
        rows[row - 1]![column]! + 1,
        rows[row]![column - 1]! + 1,
        rows[row - 1]![column - 1]! + (isSame ? 0 : 1),
      );
      if (row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1])
        least = Math.min(least, rows[row - 2]![column - 2]! + 1);
      rows[row]![column] = least;
    }
  }
  return rows[a.length]![b.length]!;
}

/** The name that was probably meant: at most a third of its letters differ. undefined where there is none. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  // A long key costs time and resembles nothing.
  if (name.length > 64) return undefined;
  const plain = name.toLowerCase().replaceAll('-', '_');
  const [best] = known
    .map((candidate) => ({ candidate, letters: distance(plain, candidate) }))
    .filter(({ candidate, letters }) => letters <= Math.max(1, Math.floor(candidate.length / 3)))
    .sort((a, b) => a.letters - b.letters);
  return best?.candidate;
}
