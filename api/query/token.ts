/**
 * Page tokens: where the next page begins, and of which query. A token holds the order keys of the last resource of a
 * page, so that pages neither repeat nor skip what stays while other resources come and go.
 */
import { createHash } from 'node:crypto';
import type { Column } from '../../model/columns.ts';
import { instantOf, integerOf, isUuid, networkOf } from './values.ts';

/** A token that was not made by this service, or belongs to another query. */
export class PageTokenError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'PageTokenError';
  }
}

export type TokenValue = string | number | boolean | null;

const LENGTH_LIMIT = 4096;

/** What a token is bound to. Page size, field mask and count may change from page to page. */
export const digestOf = (parts: readonly unknown[]): string =>
  createHash('sha256').update(JSON.stringify(parts)).digest('base64url').slice(0, 12);

/** `last` is the JSON text of the last resource's order keys. */
export const writeToken = (digest: string, last: string): string =>
  Buffer.from(`{"query":"${digest}","after":${last}}`).toString('base64url');

/** The order keys in a token, checked against the columns that they are of. Throws PageTokenError. */
export function readToken(token: string, digest: string, keys: readonly Column[]): TokenValue[] {
  const { query, after } = parse(token);
  if (query !== digest) {
    throw new PageTokenError(
      'the page token belongs to another query: kind, filter, orderBy and showDeleted must stay the same',
    );
  }
  const values = Array.isArray(after) && after.length === keys.length ? (after as unknown[]) : [];
  if (values.length === 0 || !keys.every((key, at) => fits(key, values[at]))) throw new PageTokenError(INVALID);
  return values as TokenValue[];
}

const INVALID = 'the page token is not one of ours';

function parse(token: string): { query?: unknown; after?: unknown } {
  if (token.length > LENGTH_LIMIT) throw new PageTokenError(INVALID);
  try {
    const read: unknown = JSON.parse(Buffer.from(token, 'base64url').toString());
    if (typeof read === 'object' && read !== null) return read;
  } catch {
    // Not JSON: told below like everything else that is none of ours.
  }
  throw new PageTokenError(INVALID);
}

/** Whether PostgreSQL will take the value for the column, so that a forged token is the caller's error and not ours. */
function fits(column: Column, value: unknown): boolean {
  if (value === null) return column.nullable;
  switch (column.type) {
    case 'uuid':
      return typeof value === 'string' && isUuid(value);
    case 'text':
      return typeof value === 'string' && !value.includes('\0');
    case 'inet':
      return typeof value === 'string' && networkOf(value) !== null;
    case 'timestamptz':
      return typeof value === 'string' && instantOf(value) !== null;
    case 'integer':
    case 'bigint':
      return typeof value === 'number' && integerOf(String(value)) !== null;
    case 'double':
      return typeof value === 'number';
    case 'boolean':
      return typeof value === 'boolean';
    default:
      return false;
  }
}
