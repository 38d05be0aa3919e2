import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { transform } from 'esbuild';
import { describe, expect, it } from 'vitest';
import { compileFilter } from '../../../api/query/compile.ts';
import { parseFilter } from '../../../api/query/filter.ts';
import { allKinds } from '../../../model/kinds.ts';
import { blocksOf, pages, readText } from './documentation.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));

/** What the worked example makes the reader write. */
const toBeWritten = ['workflows/compute/quiesceInstance.ts'];

/** A part of an object, or of a function, as something that can stand alone. */
const standing = (code: string): string => {
  if (/^(import|export)\b/.test(code)) return code;
  return code.startsWith('return')
    ? `async function part() {${code}}`
    : code.startsWith('{')
      ? `[${code}]`
      : `({${code}})`;
};

describe('the pages', () => {
  it.each(pages)('%s names only files that are there', (page) => {
    const named = [...readText(page).matchAll(/`((?:[\w-]+\/)+[\w.-]+\.(?:ts|mjs|md|prisma))`|\]\(([\w./]+\.md)/g)];
    const paths = named.map(([, code, link]) => code ?? join(dirname(page), link ?? ''));
    expect(paths.filter((path) => !existsSync(`${root}/${path}`) && !toBeWritten.includes(path))).toEqual([]);
  });

  it.each(
    pages.flatMap((page) =>
      [...readText(page).matchAll(/belay ([a-z-]+) list --filter '([^']+)'/g)].map(([, plural, text]) => [
        plural,
        text,
      ]),
    ),
  )('belay %s list takes the filter %s', (plural, text) => {
    const kind = allKinds.find((one) => one.plural === plural);
    const expression = parseFilter(text ?? '');
    if (!kind || !expression) throw new Error('there is no such kind, or no filter');
    expect(compileFilter(kind, expression)).toBeTypeOf('function');
  });

  it.each(pages.flatMap((page) => blocksOf(page, 'ts').map((code) => [page, code] as const)))(
    'code in %s is TypeScript: %s',
    async (_, code) => {
      await expect(transform(standing(code), { loader: 'ts' })).resolves.toBeDefined();
    },
  );
});
