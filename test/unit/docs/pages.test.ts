import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { transform } from 'esbuild';
import { describe, expect, it } from 'vitest';
import { compileFilter } from '../../../api/query/compile.ts';
import { parseFilter } from '../../../api/query/filter.ts';
import { exitCodes } from '../../../cli/exit-codes.ts';
import { allKinds } from '../../../model/kinds.ts';
import { belay } from '../cli/api.ts';
import { readText } from './documentation.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const pages = [
  'README.md',
  ...['docs', 'docs/runbooks'].flatMap((folder) =>
    readdirSync(`${root}/${folder}`).flatMap((name) => (name.endsWith('.md') ? [`${folder}/${name}`] : [])),
  ),
];

/** What the worked example makes the reader write. */
const toBeWritten = ['workflows/compute/quiesceInstance.ts'];

const blocksOf = (page: string, language: string): string[] =>
  [...readText(page).matchAll(new RegExp(`^\`\`\`${language}\n([\\s\\S]*?)^\`\`\``, 'gm'))].map(
    ([, code]) => code ?? '',
  );

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

  /** Commands as a reader types them, with an id in the place of what is to be filled in; but for those that read files of theirs, or wait for an API. */
  const commands = pages.flatMap((page) =>
    blocksOf(page, 'sh').flatMap((block) =>
      [
        ...block
          .replaceAll('\\\n', ' ')
          .replace(/<[\w-]+>/g, crypto.randomUUID())
          .matchAll(/^npx belay ([^#|>\n]*)/gm),
      ]
        .map(([, line = '']) => [page, line.trim()] as const)
        .filter(([, line]) => !/@|-file\b|--file\b|\bwatch\b/.test(line)),
    ),
  );

  it.each(commands)('%s: belay %s is a command', async (_, line) => {
    const words = [...line.matchAll(/(?:[^\s'"]|'[^']*'|"[^"]*")+/g)].map(([word]) =>
      word.replace(/'([^']*)'|"([^"]*)"/g, '$1$2'),
    );
    const { code, err } = await belay({ url: 'http://127.0.0.1:1' }, words);
    expect(code === exitCodes.usage ? err : '').toBe('');
  });

  it.each(pages.flatMap((page) => blocksOf(page, 'ts').map((code) => [page, code] as const)))(
    'code in %s is TypeScript: %s',
    async (_, code) => {
      await expect(transform(standing(code), { loader: 'ts' })).resolves.toBeDefined();
    },
  );
});
