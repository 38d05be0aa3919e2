/** Comparisons of single values: how each type is compared, what it may be compared with, what absence means. */

import { raw, type Sql, sql } from '../../database/sql.ts';
import type { Condition } from './condition.ts';
import { type Comparator, FilterError, type Value } from './filter.ts';
import { addressOf, ipv4AddressOf, ipv4NetworkOf, isUuid, networkOf } from './values.ts';

export interface Scalar {
  name: string;
  nullable: boolean;
}

export const isNull = (value: Value): boolean => !value.quoted && value.text === 'null';
export const isAnything = (value: Value): boolean => value.text === '*' && value.openStart;

export const shown = (value: Value): string => (value.quoted ? JSON.stringify(value.text) : `\`${value.text}\``);

export function mismatch(target: { name: string }, wanted: string, value: Value): FilterError {
  return new FilterError(`expected ${wanted} for ${target.name}, found ${shown(value)}`, value.position);
}

/** `= null`, `!= null` and `:*`, which mean the same for every type; null when it is none of these. */
export function comparePresence(of: Condition, comparator: Comparator, value: Value): Condition | null {
  if (comparator === ':' && isAnything(value)) return (scope) => sql`${of(scope)} IS NOT NULL`;
  if (!isNull(value)) return null;
  if (comparator === '=') return (scope) => sql`${of(scope)} IS NULL`;
  if (comparator === '!=') return (scope) => sql`${of(scope)} IS NOT NULL`;
  throw new FilterError(`null is compared with = or != only, not with ${comparator}`, value.position);
}

const notEqual = (target: Scalar, left: Sql, right: Sql): Sql =>
  target.nullable ? sql`${left} IS DISTINCT FROM ${right}` : sql`${left} <> ${right}`;

export function compareOrdered(
  target: Scalar & { wanted: string },
  of: Condition,
  comparator: Comparator,
  value: Value,
  convert: (text: string) => Sql | null,
): Condition {
  const presence = comparePresence(of, comparator, value);
  if (presence) return presence;
  const right = convert(value.text);
  if (right === null) throw mismatch(target, target.wanted, value);
  if (comparator === '!=') return (scope) => notEqual(target, of(scope), right);
  const operator = raw(comparator === ':' ? '=' : comparator);
  return (scope) => sql`${of(scope)} ${operator} ${right}`;
}

export function compareEqual(
  target: Scalar & { wanted: string },
  of: Condition,
  comparator: Comparator,
  value: Value,
  convert: (text: string) => Sql | null,
): Condition {
  if (isOrder(comparator)) throw unordered(target, target.wanted, value);
  return compareOrdered(target, of, comparator, value, convert);
}

export const isOrder = (comparator: Comparator): boolean => comparator.startsWith('<') || comparator.startsWith('>');

const unordered = (target: { name: string }, wanted: string, value: Value): FilterError =>
  new FilterError(`${target.name} is ${wanted} and has no order: compare it with = or !=`, value.position);

export function compareText(
  target: Scalar & { choices: readonly string[] | null },
  of: Condition,
  comparator: Comparator,
  value: Value,
): Condition {
  const presence = comparePresence(of, comparator, value);
  if (presence) return presence;
  const { choices } = target;
  if (choices && isOrder(comparator)) throw unordered(target, 'one of a set', value);
  const open = (value.openStart || value.openEnd) && !isOrder(comparator);
  if (open) {
    const pattern = likePattern(value);
    return comparator === '!='
      ? (scope) => sql`(${of(scope)} LIKE ${pattern}::text) IS NOT TRUE`
      : (scope) => sql`${of(scope)} LIKE ${pattern}::text`;
  }
  if (choices && !choices.includes(value.text)) throw mismatch(target, `one of ${choices.join(', ')}`, value);
  if (comparator === ':' && !choices) return (scope) => contains(of(scope), value);
  if (comparator === '!=') return (scope) => notEqual(target, of(scope), sql`${value.text}::text`);
  const operator = raw(comparator === ':' ? '=' : comparator);
  return (scope) => sql`${of(scope)} ${operator} ${value.text}::text`;
}

const addressWords: Readonly<Record<string, [wanted: string, read: (text: string) => string | null]>> = {
  ipv4: ['an IPv4 address such as 10.0.0.7', ipv4AddressOf],
  ip: ['an IP address such as 10.0.0.7 or fd00::7', addressOf],
  ipv6: ['an IPv6 address such as fd00::7', addressOf],
  'ipv4-network': ['an IPv4 network such as 10.0.0.0/24', ipv4NetworkOf],
};

/** Addresses and networks are ordered as numbers; parts of them are looked for in the text that is told. */
export function compareAddress(
  target: Scalar & { form: string },
  of: Condition,
  told: Condition,
  comparator: Comparator,
  value: Value,
): Condition {
  const inText = !isOrder(comparator) && (comparator === ':' || value.openStart || value.openEnd);
  if (inText && !isNull(value)) return compareText({ ...target, choices: null }, told, comparator, value);
  const [wanted, read] = addressWords[target.form] ?? ['a network such as 10.0.0.0/24 or fd00::/8', networkOf];
  return compareOrdered({ ...target, wanted }, of, comparator, value, (text) =>
    parameter(read(text), (known) => sql`${known}::inet`),
  );
}

const escapeLike = (text: string): string => text.replace(/[\\%_]/g, '\\$&');

/** Only the asterisks at its ends are wildcards; everything between stands for itself. */
function likePattern(value: Value): string {
  if (isAnything(value)) return '%';
  const end = value.text.length - (value.openEnd ? 1 : 0);
  const middle = escapeLike(value.text.slice(value.openStart ? 1 : 0, end));
  return `${value.openStart ? '%' : ''}${middle}${value.openEnd ? '%' : ''}`;
}

/** The text is somewhere in it, in capitals or not. */
export const contains = (left: Sql, value: Value): Sql => sql`${left} ILIKE ${`%${escapeLike(value.text)}%`}::text`;

export function compareUuids(name: string, of: Condition, comparator: Comparator, value: Value): Condition {
  if (comparator !== ':') throw listMisuse(name, value);
  if (isAnything(value)) return (scope) => sql`cardinality(${of(scope)}) > 0`;
  if (!isUuid(value.text)) throw mismatch({ name }, 'a UUID', value);
  return (scope) => sql`${of(scope)} @> ARRAY[${value.text.toLowerCase()}]::uuid[]`;
}

export const listMisuse = (name: string, value: Value): FilterError =>
  new FilterError(
    `${name} is a list: ask \`${name}:value\`, or \`${name}:*\` for a list that is not empty`,
    value.position,
  );

/** What a conversion gave, as a parameter; null for a value that is not of the type. */
export const parameter = <T>(value: T | null, cast: (value: T) => Sql): Sql | null =>
  value === null ? null : cast(value);
