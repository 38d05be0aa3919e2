/** Every command that the documentation or the product itself tells is one: the command line takes it, up to where it would ask the API. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { kebab, resourcesOf } from '../../../cli/document.ts';
import { exitCodes } from '../../../cli/exit-codes.ts';
import { belay, document } from '../cli/api.ts';
import { blocksOf, pages, readText } from './documentation.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'belay-told-'));
const anyFile = join(folder, 'file');
writeFileSync(anyFile, 'text');
afterAll(() => rmSync(folder, { recursive: true }));

/** What may stand for anything, and for a name or an id. */
const anything = '{}';
const anyId = '11111111-1111-4111-8111-111111111111';

/** With something in the place of what is to be filled in, and with a file in the place of files. */
const filledIn = (text: string): string =>
  text
    .replace(/<file>|\$\{file\}/g, anyFile)
    .replace(/"\$\([^\n]*\)"|\$\{[^}\n]*\}|<[a-z][\w-]*>/g, anyId)
    .replace(/@[a-z][\w-]*(?![\w.])/g, `@${anyFile}`)
    .replace(/(--(?:token-)?file) \S+/g, `$1 ${anyFile}`);

const wordsOf = (line: string): string[] =>
  [...line.matchAll(/(?:[^\s'"]|'[^']*'|"[^"]*")+/g)].map(([word]) => word.replace(/'([^']*)'|"([^"]*)"/g, '$1$2'));

/** Those of the examples of a page, and those in its sentences; of the latter one may be split over lines, and many only name a command. */
function commandsOf(page: string): { line: string; isMention: boolean }[] {
  const examples = blocksOf(page, 'sh').flatMap((block) => [
    ...filledIn(block.replaceAll('\\\n', ' ')).matchAll(/^(?:npx )?belay ([^#|>\n]*)/gm),
  ]);
  const sentences = filledIn(readText(page).replace(/^```[\s\S]*?^```/gm, ''));
  const mentions = [...sentences.matchAll(/`(?:npx )?belay ([a-z][^`]*)`/g)];
  return [...examples, ...mentions].map((match, at) => ({
    line: (match[1] ?? '').replace(/\s+/g, ' ').trim(),
    isMention: at >= examples.length,
  }));
}

const first = new Set([
  ...resourcesOf(document).flatMap(({ plural, kind }) => [plural, kebab(kind)]),
  ...['about', 'completion', 'configure', 'console', 'query'],
]);

/** Those in the texts of a source file: from `belay` and the name of a command on, as long as words go on without an end of the sentence. */
const commandsIn = (path: string): string[] => {
  const text = filledIn(readText(path).replace(/^\s*(?:\/\*\*.*|\*.*|\/\/.*)$/gm, '')).replaceAll('…', anything);
  const word = String.raw`(?:'[^'\n]*'|${anyId}|${anyFile}|${anything}|(?:--)?[a-z](?:[\w.=-]*\w)?)`;
  return [...text.matchAll(new RegExp(String.raw`\bbelay (${word}(?: ${word})*)`, 'g'))]
    .map(([, line = '']) => line)
    .filter((line) => first.has(line.split(' ')[0] ?? ''));
};

const sources = [
  'acceptance',
  'activities',
  'api',
  'cli',
  'database',
  'lab',
  'runtime',
  'scripts',
  'workers',
  'workflows',
].flatMap((name) =>
  readdirSync(`${root}/${name}`, { recursive: true, encoding: 'utf8' }).flatMap((path) =>
    path.endsWith('.ts') ? [`${name}/${path}`] : [],
  ),
);

/** Said of what only names a command, without all that it needs. */
const isIncomplete = (error: string): boolean =>
  /^error: (missing required argument|(--[\w.-]+(, )?)+ (is|are) needed)/.test(error);

/** As far as it comes without an API: it is interrupted as soon as it would wait for something, when it has read all its words. */
async function isCommand(line: string, isMention: boolean): Promise<void> {
  const { code, err } = await belay({ url: 'http://127.0.0.1:1' }, wordsOf(line), {
    signal: AbortSignal.abort(),
    stdin: '{}',
    env: { BELAY_CONFIG: join(folder, 'belay.json') },
  });
  expect(code === exitCodes.usage && !(isMention && isIncomplete(err)) ? err : '').toBe('');
}

/** Not the beginning of a command, but of a sentence on one. */
const sentences = ['configure writes it'];
/** What the worked example of a new action adds. */
const toBeAdded = ['instances quiesce', 'instances update web-1 --contact ops@example.net'];

describe('what is told to be a command is one', () => {
  it.each(
    pages.flatMap((page) =>
      commandsOf(page)
        .filter(({ line }) => !toBeAdded.includes(line))
        .map(({ line, isMention }) => [page, line, isMention] as const),
    ),
  )('%s: belay %s', (_, line, isMention) => isCommand(line, isMention));

  const told = sources.flatMap((path) =>
    commandsIn(path)
      .filter((line) => !sentences.includes(line))
      .map((line) => [path, line] as const),
  );
  it.each(told)('%s: belay %s', (_, line) => isCommand(line, true));

  it('those that are told of a host are among them', () => {
    const ofHost = told.flatMap(([path, line]) => (path === 'cli/hostStanding.ts' ? [line.replace(anyId, 'h1')] : []));
    for (const line of ['hosts update h1 --enabled', 'hosts failover h1 --confirm-dead', 'operations retry h1'])
      expect(ofHost).toContain(line);
  });
});
