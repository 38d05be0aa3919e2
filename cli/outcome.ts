/** What an operation has come to, or would come to, as people read it: an object of any shape in lines, and in tables where things are alike. */

import type { Operation } from './client.ts';
import { referredKind } from './document.ts';
import { cellOf, isObject, type Row, record, table, write } from './output.ts';
import { namesOfIds } from './readable.ts';
import type { Session } from './session.ts';
import { painter, printable, printableLines } from './terminal.ts';

type Paint = ReturnType<typeof painter>;

/** What operations that consist of many others are about: their results name those by ids alone. */
const partKinds: Record<string, string> = {
  'cluster.rebalance': 'instance',
  'cluster.rollingMaintenance': 'host',
  'host.enterMaintenance': 'instance',
  'host.exitMaintenance': 'instance',
  'host.failover': 'instance',
  'host.maintain': 'instance',
};

/** As `from` in `fromId`, if that is an id. */
const baseOf = (name: string): string | null => /^(.+)Id$/.exec(name)?.[1] ?? null;

const hasNameBeside = (row: Row, name: string): boolean =>
  baseOf(name) !== null && Object.hasOwn(row, `${baseOf(name)}Name`);

/** The plural of the kind whose id, or list of ids, stands under a name; null when it is none, or the kind has no names. */
function pluralOf({ resources }: Session, name: string, row: Row, parts: string | undefined): string | null {
  const isPart = name === 'left' || (name === 'targetId' && row.targetKind === undefined);
  const kind = isPart ? resources.find((one) => one.kind === parts) : referredKind(name, resources, '', row);
  return kind?.properties.name ? kind.plural : null;
}

/** Ids by the plural of their kind, of all that is not told by name as well. */
function idsIn(session: Session, value: unknown, parts: string | undefined, found: Map<string, Set<string>>): void {
  if (Array.isArray(value)) for (const item of value) idsIn(session, item, parts, found);
  if (!isObject(value)) return;
  for (const [name, inner] of Object.entries(value)) {
    const plural = pluralOf(session, name, value, parts);
    if (plural && !hasNameBeside(value, name))
      for (const id of [inner].flat())
        if (typeof id === 'string') found.set(plural, (found.get(plural) ?? new Set()).add(id));
    idsIn(session, inner, parts, found);
  }
}

/** The same with names in the place of ids: `hostId`, and `hostName` beside it, become `host`. */
function withNames(session: Session, value: unknown, parts: string | undefined, names: Map<string, string>): unknown {
  if (Array.isArray(value)) return value.map((item) => withNames(session, item, parts, names));
  if (!isObject(value)) return value;
  const called = (id: unknown): unknown => names.get(String(id)) ?? id;
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, inner]): [string, unknown][] => {
      if (hasNameBeside(value, name)) return [];
      const named = /^(.+)Name$/.exec(name)?.[1];
      if (named && Object.hasOwn(value, `${named}Id`)) return [[named, inner]];
      if (!pluralOf(session, name, value, parts)) return [[name, withNames(session, inner, parts, names)]];
      return [[baseOf(name) ?? name, Array.isArray(inner) ? inner.map(called) : called(inner)]];
    }),
  );
}

const isText = (value: unknown): value is string => typeof value === 'string' && value.trim().includes('\n');
/** Fits into a line. */
const isPlain = (value: unknown): boolean =>
  isObject(value) ? Object.keys(value).length === 0 : Array.isArray(value) ? !value.some(isObject) : !isText(value);
/** Fits into the row of a table. */
const isFlat = (value: unknown): value is Row => isObject(value) && Object.values(value).every(isPlain);

const indented = (text: string): string => text.replace(/^(?=.)/gm, '  ');

const tableOf = (rows: readonly Row[], paint: Paint): string =>
  table(rows, [...new Set(rows.flatMap((row) => Object.keys(row)))], paint, Number.POSITIVE_INFINITY);

/** Several objects that begin with the same field are rows of one table, which begin with their names. */
function alike(entries: readonly (readonly [string, unknown])[]): Row[][] {
  const groups = new Map<string, Row[]>();
  for (const [name, value] of entries) {
    if (!isFlat(value) || isPlain(value)) continue;
    const [first = ''] = Object.keys(value);
    groups.set(first, [...(groups.get(first) ?? []), { '': name, ...value }]);
  }
  return [...groups.values()].filter((rows) => rows.length > 1);
}

function inWords(value: Row, paint: Paint): string {
  const entries = Object.entries(value);
  const plain = Object.fromEntries(entries.filter(([, inner]) => isPlain(inner)));
  const tables = alike(entries);
  const shown = new Set([...Object.keys(plain), ...tables.flat().map((row) => String(row['']))]);
  const below = entries.flatMap(([name, inner]): string[] => {
    if (shown.has(name)) return [];
    const text = isText(inner)
      ? `${printableLines(inner.trimEnd())}\n`
      : Array.isArray(inner)
        ? inner.every(isFlat)
          ? tableOf(inner, paint)
          : inner.map((item) => (isObject(item) ? inWords(item, paint) : `${cellOf(item)}\n`)).join('\n')
        : inWords(inner as Row, paint);
    return [`${paint('bold', printable(name))}\n${indented(text)}`];
  });
  return [
    ...(Object.keys(plain).length > 0 ? [record(plain, null, paint)] : []),
    ...tables.map((rows) => tableOf(rows, paint)),
    ...below,
  ].join('\n');
}

/** Empty when there is nothing to tell. `type` is that of the operation. */
export async function outcomeOf(session: Session, type: string, value: unknown, paint: Paint): Promise<string> {
  if (value === null || value === undefined) return '';
  if (!isObject(value)) return `${cellOf(value)}\n`;
  const found = new Map<string, Set<string>>();
  idsIn(session, value, partKinds[type], found);
  return inWords(withNames(session, value, partKinds[type], await namesOfIds(session, found)) as Row, paint);
}

/** Prints the result of an operation below what it was about: what `about` says itself is not said twice. */
export async function printResult(session: Session, { type, result }: Operation, about: unknown = {}): Promise<void> {
  const { stdout, env } = session.terminal;
  const paint = painter(stdout, env);
  const isSaid = ([name, value]: [string, unknown]): boolean => isObject(about) && about[name] === value;
  const rest = isObject(result) ? Object.fromEntries(Object.entries(result).filter((entry) => !isSaid(entry))) : result;
  const text = await outcomeOf(session, String(type), rest, paint);
  if (text) await write(stdout, `${paint('bold', 'result')}\n${indented(text)}`);
}

/** What else an operation that went wrong tells of its parts, such as which have failed, and what is left. */
export const partsOfFailure = (session: Session, { type, error }: Operation): Promise<string> => {
  const { code, message, step, stepIndex, host, ...parts } = isObject(error) ? error : {};
  return outcomeOf(session, String(type), parts, (_, text) => text);
};
