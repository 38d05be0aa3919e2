/** The names most like a mistyped one, for messages. */

/** Longer input is cut: nobody needs the distance of a page of text. */
const COMPARED_LENGTH = 48;

/** Up to three of the names, the most similar first. */
export function nearest(wanted: string, names: Iterable<string>): string[] {
  const target = wanted.slice(0, COMPARED_LENGTH).toLowerCase();
  return [...names]
    .map((name) => ({ name, distance: distance(target, name.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance || a.name.localeCompare(b.name))
    .slice(0, 3)
    .map(({ name }) => name);
}

/** Edits from one to the other (Levenshtein); a beginning of the name counts as nearly right. */
function distance(from: string, to: string): number {
  if (from.length > 1 && to.startsWith(from)) return 0.5;
  let previous = Array.from({ length: to.length + 1 }, (_, at) => at);
  for (let row = 1; row <= from.length; row++) {
    const current = [row];
    for (let at = 1; at <= to.length; at++) {
      const replaced = (previous[at - 1] ?? 0) + (from[row - 1] === to[at - 1] ? 0 : 1);
      current.push(Math.min(replaced, (previous[at] ?? 0) + 1, (current[at - 1] ?? 0) + 1));
    }
    previous = current;
  }
  return previous[to.length] ?? to.length;
}
