/** The parameters of reads, checked: what a client wrote in the query string, or in one list of `POST /v1/query`. */
import { type Column, columnsOf, orderableOf } from '../../model/columns.ts';
import type { Kind } from '../../model/kind.ts';
import { type Condition, compileFilter } from './compile.ts';
import { FilterError, parseFilter } from './filter.ts';
import { nearest } from './nearest.ts';
import { digestOf, PageTokenError, readToken, type TokenValue } from './token.ts';

export interface OrderKey {
  name: string;
  descending: boolean;
}

export interface ListQuery {
  filter: Condition | null;
  /** How many relations the filter follows: what it costs can not be told from its length then. */
  hops: number;
  /** Always ends in `id`, so that the order is total. */
  orderBy: OrderKey[];
  /** 1 to 500. */
  pageSize: number;
  /** Order keys of the last resource of the page before; null for the first page. */
  after: TokenValue[] | null;
  /** Told fields in the kind's own order, `id` among them; null for all. */
  fields: string[] | null;
  count: 'none' | 'exact';
  showDeleted: boolean;
  /** What the page tokens of this query are bound to. */
  digest: string;
}

export interface GetQuery {
  fields: string[] | null;
  showDeleted: boolean;
}

export interface Violation {
  field: string;
  message: string;
  /** Column in a filter, from 0. */
  position?: number;
}

/** Parameters that break the rules; all violations at once. MALFORMED_REQUEST if a filter or page token is among them. */
export class ProblemInput extends Error {
  readonly code: 'MALFORMED_REQUEST' | 'INVALID_ARGUMENT';
  readonly violations: Violation[];

  constructor(code: ProblemInput['code'], violations: Violation[]) {
    super(violations.map(({ field, message }) => `${field}: ${message}`).join('; '));
    this.name = 'ProblemInput';
    this.code = code;
    this.violations = violations;
  }
}

const DEFAULT_PAGE_SIZE = 50;
const MAX_PAGE_SIZE = 500;
const MALFORMED = ['filter', 'pageToken'];

/**
 * The parameters of a list. Unknown ones are violations, except those named in `otherParameters`, which the caller reads
 * itself. Throws ProblemInput.
 */
export function parseListQuery(
  kind: Kind,
  parameters: Readonly<Record<string, unknown>>,
  otherParameters: readonly string[] = [],
): ListQuery {
  const known = ['filter', 'orderBy', 'pageSize', 'pageToken', 'fields', 'count', 'showDeleted'];
  const read = reader(parameters, [...known, ...otherParameters]);
  const filterText = read.text('filter')?.trim() ?? '';
  const hops = { count: 0 };
  const filter = read.attempt('filter', null, () => {
    const expression = parseFilter(read.text('filter') ?? '');
    return expression && compileFilter(kind, expression, hops);
  });
  const orderBy = read.attempt('orderBy', [], () => parseOrderBy(kind, read.text('orderBy')));
  const showDeleted = read.boolean('showDeleted');
  const digest = digestOf([kind.name, filterText, orderBy, showDeleted]);
  const token = read.text('pageToken');
  const query: ListQuery = {
    filter,
    hops: hops.count,
    orderBy,
    pageSize: read.attempt('pageSize', DEFAULT_PAGE_SIZE, () => parsePageSize(read.text('pageSize'))),
    after: read.attempt('pageToken', null, () =>
      // While something else is wrong there is no telling which query the token is of.
      token && !read.failed() ? readToken(token, digest, orderColumns(kind, orderBy)) : null,
    ),
    fields: read.attempt('fields', null, () => parseFields(kind, read.text('fields'))),
    count: read.attempt('count', 'none', () => parseCount(read.text('count'))),
    showDeleted,
    digest,
  };
  read.finish();
  return query;
}

/** The parameters of a read of one resource: `fields`, `showDeleted`. Throws ProblemInput. */
export function parseGetQuery(
  kind: Kind,
  parameters: Readonly<Record<string, unknown>>,
  otherParameters: readonly string[] = [],
): GetQuery {
  const read = reader(parameters, ['fields', 'showDeleted', ...otherParameters]);
  const query = {
    fields: read.attempt('fields', null, () => parseFields(kind, read.text('fields'))),
    showDeleted: read.boolean('showDeleted'),
  };
  read.finish();
  return query;
}

/** The columns of order keys; `id` too. */
export const orderColumns = (kind: Kind, orderBy: readonly OrderKey[]): Column[] =>
  orderBy.flatMap(({ name }) => columnsOf(kind).filter((column) => column.name === name));

/** A rule that a parameter breaks. */
class Unfit extends Error {}

function reader(parameters: Readonly<Record<string, unknown>>, known: readonly string[]) {
  const violations: Violation[] = [];
  for (const name of Object.keys(parameters)) {
    if (known.includes(name)) continue;
    violations.push({ field: name.slice(0, 64), message: `no such parameter; there are ${known.join(', ')}` });
  }

  const text = (name: string): string | undefined => {
    const value = Object.hasOwn(parameters, name) ? parameters[name] : undefined;
    if (value === undefined || value === null) return undefined;
    // In a JSON body numbers and booleans are written as such.
    if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') return String(value);
    const message = Array.isArray(value) ? 'given more than once' : 'expected text';
    if (!violations.some(({ field }) => field === name)) violations.push({ field: name, message });
    return undefined;
  };

  const attempt = <T>(field: string, otherwise: T, act: () => T): T => {
    try {
      return act();
    } catch (error) {
      if (error instanceof FilterError) violations.push({ field, message: error.message, position: error.position });
      else if (error instanceof PageTokenError || error instanceof Unfit)
        violations.push({ field, message: error.message });
      else throw error;
      return otherwise;
    }
  };

  return {
    text,
    attempt,
    boolean: (name: string): boolean =>
      attempt(name, false, () => {
        const value = text(name) ?? 'false';
        if (value !== 'true' && value !== 'false') throw new Unfit('expected true or false');
        return value === 'true';
      }),
    failed: () => violations.length > 0,
    finish: () => {
      if (violations.length === 0) return;
      const malformed = violations.some(({ field }) => MALFORMED.includes(field));
      throw new ProblemInput(malformed ? 'MALFORMED_REQUEST' : 'INVALID_ARGUMENT', violations);
    },
  };
}

/** `createdAt desc, name`; newest first when nothing is asked. */
function parseOrderBy(kind: Kind, text: string | undefined): OrderKey[] {
  const keys = (text?.trim() || 'createdAt desc').split(',').map((part): OrderKey => {
    const [name = '', direction = 'asc', ...more] = part.trim().split(/\s+/);
    if (name === '') throw new Unfit('expected fields with commas between them');
    if (!orderableOf(kind).includes(name)) {
      throw new Unfit(`can not order by ${name.slice(0, 64)}; there are ${orderableOf(kind).join(', ')}`);
    }
    if ((direction !== 'asc' && direction !== 'desc') || more.length > 0) {
      throw new Unfit(`expected asc or desc after ${name}`);
    }
    return { name, descending: direction === 'desc' };
  });
  const twice = keys.find((key, at) => keys.findIndex(({ name }) => name === key.name) !== at);
  if (twice) throw new Unfit(`${twice.name} is named twice`);
  return [...keys, { name: 'id', descending: keys.at(-1)?.descending ?? false }];
}

function parsePageSize(text: string | undefined): number {
  if (text === undefined) return DEFAULT_PAGE_SIZE;
  const size = /^\d{1,4}$/.test(text) ? Number(text) : 0;
  if (size < 1 || size > MAX_PAGE_SIZE) throw new Unfit(`expected an integer from 1 to ${MAX_PAGE_SIZE}`);
  return size;
}

function parseCount(text: string | undefined): ListQuery['count'] {
  if (text === undefined || text === 'none') return 'none';
  if (text === 'exact') return 'exact';
  throw new Unfit('expected none or exact');
}

/** A mask such as `name,state`: in the kind's own order, so that masks of the same fields are the same statement. */
function parseFields(kind: Kind, text: string | undefined): string[] | null {
  if (text === undefined || text.trim() === '' || text.trim() === '*') return null;
  const answered = columnsOf(kind).flatMap((column) => (column.hidden ? [] : [column.name]));
  const wanted = text.split(',').map((name) => name.trim());
  const unknown = wanted.find((name) => !answered.includes(name));
  if (unknown !== undefined) {
    const hint = nearest(unknown, answered).join(', ');
    throw new Unfit(`\`${unknown.slice(0, 64)}\` is no field of ${kind.name}; did you mean ${hint}?`);
  }
  return answered.filter((name) => name === 'id' || wanted.includes(name));
}
