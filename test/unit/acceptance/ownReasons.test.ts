/** What the platform does by itself is read by the tenants whose resources it does it to: its `requestId` names nothing that they may not see. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const root = join(import.meta.dirname, '../../..');

/** What stands between a parenthesis or brace at `from` and the one that closes it. */
function enclosed(text: string, from: number): string {
  let depth = 0;
  for (let at = from; at < text.length; at++) {
    if ('({'.includes(text[at] ?? '')) depth += 1;
    if (')}'.includes(text[at] ?? '') && --depth === 0) return text.slice(from, at + 1);
  }
  return text.slice(from);
}

const sources = ['acceptance', 'activities', 'database', 'runtime', 'workers'].flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => [join(folder, name), readFileSync(join(root, folder, name), 'utf8')] as const),
);

test('no request id of the platform is made of an id', () => {
  const begun: string[] = [];
  const made: string[] = [];
  for (const [name, text] of sources) {
    for (const { index } of text.matchAll(/(?<!function )\b(acceptOwn|askToSettle)\(/g)) {
      const call = enclosed(text, text.indexOf('(', index));
      begun.push(name);
      if (call.includes('${')) made.push(`${name}: ${call}`);
    }
    for (const [said, value = ''] of text.matchAll(/\brequestId: ([^,\n]*)/g))
      if (/\$\{|\w\(/.test(value)) made.push(`${name}: ${said}`);
  }
  expect(begun.length).toBeGreaterThan(8);
  expect(made).toEqual([]);
});
