/** What the tests of the documentation read it with. */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../..', import.meta.url));

export const readText = (path: string): string => readFileSync(`${root}/${path}`, 'utf8');

export const pages = [
  'README.md',
  ...['docs', 'docs/runbooks'].flatMap((folder) =>
    readdirSync(`${root}/${folder}`).flatMap((name) => (name.endsWith('.md') ? [`${folder}/${name}`] : [])),
  ),
];

export const blocksOf = (page: string, language: string): string[] =>
  [...readText(page).matchAll(new RegExp(`^\`\`\`${language}\n([\\s\\S]*?)^\`\`\``, 'gm'))].map(
    ([, code]) => code ?? '',
  );

/** The cells of every table row of a page that begins with code, its code marks taken off: `| `a` | `b` | c |` is `['a', 'b', 'c']`. */
export function rowsOf(page: string): string[][] {
  return page
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) =>
      line
        .slice(1, line.lastIndexOf('|'))
        .split(' | ')
        .map((cell) => cell.trim().replace(/^`(.*)`$/, '$1')),
    );
}

/** The rows below a heading, up to the next one. */
export function rowsBelow(page: string, heading: string): string[][] {
  const from = page.indexOf(`\n${heading}\n`);
  if (from < 0) throw new Error(`there is no heading "${heading}"`);
  const rest = page.slice(from + heading.length + 2);
  const next = rest.search(/^#+ /m);
  return rowsOf(next < 0 ? rest : rest.slice(0, next));
}
