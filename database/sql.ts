/** SQL as immutable fragments: text and parameters never mix, so what a client sends can not become text. */
import { createHash } from 'node:crypto';
import type { Queryable } from './database.ts';

// A symbol nobody else holds: an object parsed from a request can never pass for a fragment.
const fragment = Symbol('sql');

/** A piece of SQL with the values of its parameters; one more text than values. */
export interface Sql {
  readonly [fragment]: true;
  readonly texts: readonly string[];
  readonly values: readonly unknown[];
}

/** What `pg` takes as a query. A `name` that is not empty makes it prepare the statement once per connection. */
export interface Statement {
  text: string;
  values: unknown[];
  name: string;
}

const make = (texts: readonly string[], values: readonly unknown[]): Sql =>
  Object.freeze({ [fragment]: true as const, texts, values });

const isSql = (value: unknown): value is Sql => typeof value === 'object' && value !== null && fragment in value;

/** A fragment from a template: fragments in it are spliced in, everything else becomes a parameter. */
export function sql(strings: TemplateStringsArray, ...parts: readonly unknown[]): Sql {
  const texts: string[] = [];
  const values: unknown[] = [];
  let open = strings[0] ?? '';
  parts.forEach((part, index) => {
    if (isSql(part)) {
      part.texts.forEach((text, at) => {
        if (at > 0) {
          texts.push(open);
          values.push(part.values[at - 1]);
          open = '';
        }
        open += text;
      });
    } else {
      texts.push(open);
      values.push(part);
      open = '';
    }
    open += strings[index + 1] ?? '';
  });
  texts.push(open);
  return make(texts, values);
}

/** Constant text of ours. Never for anything that came from outside. */
export const raw = (text: string): Sql => make([text], []);

/** The quoted name of a table, column or alias. Throws on what could not be a name of the model. */
export function identifier(name: string): Sql {
  if (!/^[A-Za-z][A-Za-z0-9]{0,62}$/.test(name)) throw new Error(`not a name of the model: ${JSON.stringify(name)}`);
  return raw(`"${name}"`);
}

/** The fragments in their order, with the separator between them; an empty fragment when there are none. */
export function join(parts: readonly Sql[], separator = ', '): Sql {
  const texts: string[] = [];
  const values: unknown[] = [];
  let open = '';
  parts.forEach((part, index) => {
    if (index > 0) open += separator;
    part.texts.forEach((text, at) => {
      if (at > 0) {
        texts.push(open);
        open = '';
      }
      open += text;
    });
    values.push(...part.values);
  });
  texts.push(open);
  return make(texts, values);
}

/** All of them; TRUE when there are none. */
export const and = (parts: readonly Sql[]): Sql => connect(parts, ' AND ', 'TRUE');

/** Any of them; FALSE when there are none. */
export const or = (parts: readonly Sql[]): Sql => connect(parts, ' OR ', 'FALSE');

function connect(parts: readonly Sql[], separator: string, none: string): Sql {
  const [only] = parts;
  if (only === undefined) return raw(none);
  return parts.length === 1 ? only : sql`(${join(parts, separator)})`;
}

/** How many texts shaped by callers get a name in this process. */
const NAMED_TEXTS_LIMIT = 1000;
const names = new Map<string, string>();
let callerShaped = 0;

/**
 * The statement of a fragment, parameters numbered `$1…`. Equal shapes have equal texts and so equal names.
 *
 * A server connection keeps every named statement until it closes. So texts that callers can vary at will, such as those
 * with a filter, are named only up to a limit (`lasting` false, the default); later ones are sent unnamed. A statement
 * that is not `named` is planned each time for its own values.
 */
export function render(source: Sql, { lasting = false, named = true }: RenderOptions = {}): Statement {
  let text = source.texts[0] ?? '';
  for (let at = 1; at < source.texts.length; at++) text += `$${at}${source.texts[at]}`;
  return { text, values: [...source.values], name: named ? nameOf(text, lasting) : '' };
}

export interface RenderOptions {
  lasting?: boolean;
  named?: boolean;
}

function nameOf(text: string, lasting: boolean): string {
  const known = names.get(text);
  if (known !== undefined) return known;
  if (!lasting && callerShaped >= NAMED_TEXTS_LIMIT) return '';
  if (!lasting) callerShaped += 1;
  const name = `q_${createHash('sha256').update(text).digest('hex').slice(0, 24)}`;
  names.set(text, name);
  return name;
}

/** Asks a statement that callers shape; what its rows are, is said. */
export async function ask<Row>(on: Queryable, statement: Statement): Promise<Row[]> {
  return (await on.query(statement)).rows as Row[];
}
