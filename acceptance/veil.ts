/** What of an answer its reader is told, by the table in `model/veil.ts`. */
import { identifier, raw, type Sql, sql } from '../database/sql.ts';
import type { Column } from '../model/columns.ts';
import { actorMembers, openWords, ownWords, plainWords, veiledMembers, wordedHere } from '../model/veil.ts';
import { type Caller, may, scopesOf } from './caller.ts';

export interface Veil {
  /** What stands for a column in a statement; null for the column itself. */
  column(column: Column, alias: Sql): Sql | null;
  /** The same for what is compared: of documents, whose members are not in the table one by one, nothing can be asked. */
  compared(column: Column, alias: Sql): Sql | null;
  /** The JSON of an answer as it may be told. */
  json(text: string): string;
}

type Json = Record<string, unknown>;

const isObject = (value: unknown): value is Json =>
  value !== null && typeof value === 'object' && !Array.isArray(value);

/** Whether a document may hold members that nobody has named, so that what is in it is known only when it is told. */
function isOpen(schema: Json): boolean {
  if (schema.type === 'array') return isOpen((schema.items ?? {}) as Json);
  if (schema.type === 'object') return !schema.properties && !isObject(schema.additionalProperties);
  return schema.type === undefined && schema.anyOf === undefined;
}

const sqlTypes: Record<string, string> = { 'uuid[]': 'uuid[]', integer: 'integer', bigint: 'bigint', double: 'float8' };

interface Reader {
  mayAtPlatform(permission: string): boolean;
  maySeeScope(scope: Json): boolean;
  /** Accounts whose people the reader may know; null for all. */
  knownAccounts: string[] | null;
}

const veils = new WeakMap<Caller, { veil: Veil | null }>();

/** What hides from this caller what it may not know; null when it may know everything. */
export function veilOf(caller: Caller): Veil | null {
  let known = veils.get(caller);
  if (!known) {
    const users = scopesOf(caller, 'user.get');
    const at = (kind: unknown, name: string, id: unknown): string | null => (kind === name ? String(id) : null);
    known = {
      veil: veilFor({
        mayAtPlatform: (permission) => scopesOf(caller, permission).platform,
        maySeeScope: ({ kind, id }) =>
          may(caller, 'quota.get', {
            projectId: at(kind, 'project', id),
            accountId: at(kind, 'account', id),
            domainId: at(kind, 'domain', id),
          }),
        knownAccounts: users.platform ? null : [caller.accountId, ...users.accounts],
      }),
    };
    veils.set(caller, known);
  }
  return known.veil;
}

/** For whoever may know nothing of the platform, such as the receiver of a callback. */
export const strangersVeil = (): Veil | null =>
  veilFor({ mayAtPlatform: () => false, maySeeScope: () => false, knownAccounts: [] });

function veilFor({ mayAtPlatform, maySeeScope, knownAccounts }: Reader): Veil | null {
  const hidden = new Set(
    [...veiledMembers].filter(([, permission]) => !mayAtPlatform(permission)).map(([name]) => name),
  );
  if (hidden.size === 0 && knownAccounts === null) return null;
  const plain = hidden.size > 0;
  // PostgreSQL writes a space behind the colons of a document, and none behind those of a row.
  const tells = new RegExp(`"(?:${[...hidden].join('|')})":(?! ?null[,}])|"code": ?"`);

  function problem(given: Json, told: Json, isWordedHere: boolean): void {
    const code = String(given.code);
    // The error of a step may be in the words of whatever system it met.
    const open = isWordedHere ? !(code in plainWords) : openWords.includes(code);
    for (const name of ['message', 'detail']) if (!open && name in given) told[name] = plainWords[code] ?? code;
    if (code !== 'QUOTA_EXCEEDED' || !isObject(given.scope) || maySeeScope(given.scope)) return;
    for (const name of ['scope', 'used', 'limit']) delete told[name];
    const words = `${String(given.counter)} are limited here, and ${String(given.asked)} more do not fit`;
    for (const name of ['message', 'detail']) if (name in given) told[name] = words;
  }

  function told(value: unknown, isWordedHere = false): unknown {
    if (Array.isArray(value)) return value.map((one) => told(one, isWordedHere));
    if (!isObject(value)) return value;
    const result: Json = {};
    for (const [name, member] of Object.entries(value))
      result[name] = hidden.has(name)
        ? null
        : ownWords.includes(name)
          ? member
          : told(member, wordedHere.includes(name));
    if (plain && typeof value.code === 'string' && ('message' in value || 'detail' in value))
      problem(value, result, isWordedHere || ('status' in value && 'detail' in value));
    return result;
  }

  const column = ({ name, type }: Column, alias: Sql): Sql | null => {
    if (hidden.has(name)) return raw(`NULL::${sqlTypes[type] ?? type}`);
    const actor = Object.hasOwn(actorMembers, name) ? actorMembers[name] : undefined;
    if (knownAccounts === null || !actor) return null;
    return sql`CASE WHEN EXISTS (SELECT 1 FROM "user" actor WHERE actor.id = ${alias}.${identifier(actor)} AND actor."accountId" = ANY(${knownAccounts}::uuid[])) THEN ${alias}.${identifier(name)} END`;
  };
  const compared = (of: Column, alias: Sql): Sql | null => {
    if (!plain || of.type !== 'jsonb' || !isOpen(of.schema)) return column(of, alias);
    if (of.schema.type !== 'object') return raw('NULL::jsonb');
    // Of a problem its code is told, and that there is one.
    const value = sql`${alias}.${identifier(of.name)}`;
    return sql`CASE WHEN ${value} IS NOT NULL THEN jsonb_build_object('code', ${value}->'code') END`;
  };
  return {
    column,
    compared,
    json: (text) => (plain && tells.test(text) ? JSON.stringify(told(JSON.parse(text))) : text),
  };
}
