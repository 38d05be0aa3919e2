import type { Violation } from '../runtime/problem.ts';

/** What no text may hold, in keys as in values: PostgreSQL keeps neither, and half a character is no text in any encoding. */
const unfit: [RegExp, string][] = [
  [/\0/, 'holds the character U+0000'],
  [/\p{Surrogate}/u, 'holds half of a character: a surrogate without its other half'],
];

const shown = (text: string): string => text.replaceAll(/\0|\p{Surrogate}/gu, '\u{FFFD}').slice(0, 64);

/** All places of a JSON value whose text can not be kept. */
export function unstorable(value: unknown, path: readonly string[] = []): Violation[] {
  const inText = (text: string, at: readonly string[]): Violation[] =>
    unfit.flatMap(([pattern, message]) => (pattern.test(text) ? [{ field: at.join('.') || 'body', message }] : []));
  if (typeof value === 'string') return inText(value, path);
  if (value === null || typeof value !== 'object') return [];
  return Object.entries(value).flatMap(([key, member]) => {
    const at = [...path, shown(key)];
    return [...inText(key, at), ...unstorable(member, at)];
  });
}
