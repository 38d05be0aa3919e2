/** Answers for people (tables) and for programs (JSON, YAML, ids). */
import { type Output, painter, printable, type Style, type Terminal } from './terminal.ts';

export const formats = ['table', 'json', 'yaml', 'id'] as const;
export type Format = (typeof formats)[number];

export type Row = Record<string, unknown>;

export const isObject = (value: unknown): value is Row =>
  value !== null && typeof value === 'object' && !Array.isArray(value);

/** A value by its dotted name; `labels.example.com/tier` is the label `example.com/tier`. */
export function valueAt(row: unknown, path: string): unknown {
  if (!isObject(row)) return undefined;
  if (Object.hasOwn(row, path)) return row[path];
  const dot = path.indexOf('.');
  return dot < 0 ? undefined : valueAt(row[path.slice(0, dot)], path.slice(dot + 1));
}

const instant = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?Z$/;

/** A value in one line. */
export function cellOf(value: unknown): string {
  if (value === null || value === undefined || value === '') return '-';
  if (typeof value === 'string') return printable(value.replace(instant, '$1 $2Z'));
  if (typeof value !== 'object') return String(value);
  if (Array.isArray(value))
    return value.length === 0
      ? '-'
      : value.every((item) => !isObject(item))
        ? printable(value.join(','))
        : printable(JSON.stringify(value));
  const entries = Object.entries(value);
  if (entries.length === 0) return '-';
  return printable(
    entries.every(([, inner]) => typeof inner !== 'object')
      ? entries.map(([key, inner]) => `${key}=${String(inner)}`).join(',')
      : JSON.stringify(value),
  );
}

/** Columns a text takes on the terminal: East Asian wide characters take two, combining ones none (UAX #11). */
export function widthOf(text: string): number {
  let width = 0;
  for (const character of text) {
    if (/\p{Mn}|\p{Me}|\u200d|\ufe0f/u.test(character)) continue;
    width +=
      /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Extended_Pictographic}/u.test(
        character,
      )
        ? 2
        : 1;
  }
  return width;
}

const good = ['running', 'ready', 'active', 'succeeded', 'up', 'available', 'connected', 'enabled', 'done', 'attached'];
const bad = ['failed', 'error', 'stuck', 'down', 'disconnected', 'unreachable', 'lost', 'fenced'];

function styleOf(column: string, text: string): Style | null {
  if (column !== 'state' && column !== 'severity') return null;
  if (good.includes(text)) return 'green';
  if (bad.includes(text) || text === 'critical') return 'red';
  return /ing$|^queued$|^rollingBack$|^warning$/.test(text) ? 'yellow' : null;
}

/** Longer values are cut in lists; JSON and YAML have them whole. */
const widestCell = 60;

const cut = (text: string, widest: number): string => (text.length > widest ? `${text.slice(0, widest - 1)}…` : text);

/** Rows under the names of their columns. */
export function table(
  rows: readonly Row[],
  columns: readonly string[],
  paint: ReturnType<typeof painter>,
  widest = widestCell,
): string {
  const cells = rows.map((row) => columns.map((column) => cut(cellOf(valueAt(row, column)), widest)));
  const widths = columns.map((column, at) =>
    cells.reduce((widest, line) => Math.max(widest, widthOf(line[at] ?? '')), widthOf(column)),
  );
  const line = (texts: readonly string[], style: (text: string, at: number) => Style | null): string =>
    texts
      .map((text, at) => {
        const padding = at === texts.length - 1 ? '' : ' '.repeat((widths[at] ?? 0) - widthOf(text));
        return paint(style(text, at), text) + padding;
      })
      .join('  ')
      .trimEnd();
  const lines = [
    line(columns, () => 'bold'),
    ...cells.map((texts) => line(texts, (text, at) => styleOf(columns[at] ?? '', text))),
  ];
  return `${lines.join('\n')}\n`;
}

/** One resource: a line per property; objects and lists of objects go below their name. */
export function record(row: Row, columns: readonly string[] | null, paint: ReturnType<typeof painter>): string {
  const names = columns ?? Object.keys(row);
  const width = names.reduce((widest, name) => Math.max(widest, widthOf(name)), 0);
  const lines = names.map((name) => {
    const value = valueAt(row, name);
    const title = paint('bold', name) + ' '.repeat(width - widthOf(name));
    if (Array.isArray(value) && value.length > 0 && value.every(isObject))
      return `${title}\n${value.map((item) => `  - ${cellOf(item)}`).join('\n')}`;
    const text = cellOf(value);
    return `${title}  ${paint(styleOf(name, text), text)}`;
  });
  return `${lines.join('\n')}\n`;
}

const plain = /^[A-Za-z_/][A-Za-z0-9_./@-]*( [A-Za-z0-9_./@-]+)*$/;
/** Words that YAML 1.1 or 1.2 takes for something else than text. */
const special = /^(null|true|false|yes|no|on|off|y|n)$/i;

const yamlText = (text: string): string =>
  plain.test(text) && !special.test(text)
    ? text
    : JSON.stringify(text).replace(
        /[\u007f-\u009f\u2028\u2029]/g,
        (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
      );

/** YAML 1.2 of what JSON can hold. */
export function yaml(value: unknown, indent = ''): string {
  if (typeof value === 'string') return yamlText(value);
  if (value === null || typeof value !== 'object') return String(value ?? null);
  const block = (inner: unknown, prefix: string): string => {
    const text = yaml(inner, `${indent}  `);
    const nested = inner !== null && typeof inner === 'object' && Object.keys(inner).length > 0;
    if (!nested) return `${prefix} ${text}`;
    return prefix.endsWith('-') ? `${prefix} ${text.trimStart()}` : `${prefix}\n${text}`;
  };
  const lines = Array.isArray(value)
    ? value.map((item) => block(item, `${indent}-`))
    : Object.entries(value).map(([key, inner]) => block(inner, `${indent}${yamlText(key)}:`));
  if (lines.length === 0) return Array.isArray(value) ? '[]' : '{}';
  return lines.join('\n');
}

/** Waits until the stream has taken it, so that a list of any length fits into memory. */
export function write(output: Output, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    output.write(text, (error) => (error ? reject(error) : resolve()));
  });
}

export interface Shown {
  format: Format;
  columns: readonly string[] | null;
}

const structured = (format: Format, value: unknown): string =>
  format === 'yaml' ? `${yaml(value)}\n` : `${JSON.stringify(value, null, 2)}\n`;

/** Prints one resource, operation or answer without a kind. */
export async function printOne(terminal: Terminal, value: unknown, { format, columns }: Shown): Promise<void> {
  const { stdout, env } = terminal;
  if (format === 'json' || format === 'yaml') return write(stdout, structured(format, value));
  if (format === 'id') {
    const id = valueAt(value, 'id');
    return id === undefined ? undefined : write(stdout, `${String(id)}\n`);
  }
  return write(stdout, isObject(value) ? record(value, columns, painter(stdout, env)) : `${cellOf(value)}\n`);
}

export interface Page {
  items: Row[];
  nextPageToken: string | null;
  count?: number;
}

/** Prints a list. */
export async function printList(
  terminal: Terminal,
  page: Page,
  { format, columns }: { format: Format; columns: readonly string[] },
): Promise<void> {
  const { stdout, env } = terminal;
  if (format === 'json' || format === 'yaml') return write(stdout, structured(format, page));
  if (format === 'id') return write(stdout, page.items.map(({ id }) => `${String(id)}\n`).join(''));
  return write(stdout, table(page.items, columns, painter(stdout, env)));
}
