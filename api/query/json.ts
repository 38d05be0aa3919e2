/** Filters within JSON: labels, objects, lists, and documents of which nothing is known. */

import { identifier, raw, type Sql, sql } from '../../database/sql.ts';
import { addressForms } from '../../model/forms.ts';
import { type Condition, type Context, compile, firstOf, hop, type Scope, unknownName } from './condition.ts';
import { type Comparator, FilterError, type Segment, type Value } from './filter.ts';
import {
  compareAddress,
  compareEqual,
  comparePresence,
  compareText,
  isAnything,
  isNull,
  isOrder,
  listMisuse,
  mismatch,
  parameter,
  shown,
} from './scalars.ts';
import { booleanOf, integerOf, numberOf } from './values.ts';

type Schema = Record<string, unknown>;

type Shape =
  /** Of which nothing is known: a value's own type decides. */
  | { type: 'any' }
  | { type: 'map'; values: Schema }
  | { type: 'object'; properties: Record<string, Schema> }
  | { type: 'array'; items: Schema }
  | { type: 'string'; choices: readonly string[] | null }
  | { type: 'address'; form: string }
  | { type: 'number' | 'integer' | 'boolean' };

function shapeOf(schema: Schema): Shape {
  const alternatives = (schema.anyOf as Schema[] | undefined)?.filter((alternative) => alternative.type !== 'null');
  const [only] = alternatives ?? [];
  if (alternatives) return only && alternatives.length === 1 ? shapeOf(only) : { type: 'any' };
  switch (schema.type) {
    case 'object':
      if (schema.properties) return { type: 'object', properties: schema.properties as Record<string, Schema> };
      if (typeof schema.additionalProperties === 'object' && schema.additionalProperties !== null) {
        return { type: 'map', values: schema.additionalProperties as Schema };
      }
      return schema.patternProperties
        ? { type: 'map', values: Object.values(schema.patternProperties as Record<string, Schema>)[0] ?? {} }
        : { type: 'any' };
    case 'array':
      return { type: 'array', items: (schema.items as Schema | undefined) ?? {} };
    case 'string':
      return addressForms.has(schema.format)
        ? { type: 'address', form: String(schema.format) }
        : { type: 'string', choices: choicesOf(schema) };
    case 'number':
    case 'integer':
    case 'boolean':
      return { type: schema.type };
    default:
      return { type: 'any' };
  }
}

export const choicesOf = (schema: Schema): readonly string[] | null =>
  (schema.enum as readonly string[] | undefined) ?? null;

/** A place in a JSON document: the document, and the keys that lead to the place. */
interface Place {
  document: Condition;
  keys: string[];
  name: string;
  /** The last key is one of a map, such as a label. */
  ofMap: boolean;
}

const jsonAt = ({ document, keys }: Place, scope: Scope): Sql => {
  const [key, ...more] = keys;
  if (key === undefined) return document(scope);
  return more.length === 0 ? sql`(${document(scope)} -> ${key}::text)` : sql`(${document(scope)} #> ${keys}::text[])`;
};

const textAt = ({ document, keys }: Place, scope: Scope): Sql => {
  const [key, ...more] = keys;
  if (key !== undefined && more.length === 0) return sql`(${document(scope)} ->> ${key}::text)`;
  return sql`(${document(scope)} #>> ${keys}::text[])`;
};

/**
 * Names that stand for members of a JSON document; the path may be empty and then means the document itself, which the
 * filter names at `position`.
 */
export function ofJson(schema: Schema, document: Condition, name: string, position: number): Context {
  return {
    compare(path, comparator, value, budget) {
      const { shape, place, rest } = descend(schema, document, name, path);
      if (shape.type === 'array' && rest.length > 0) {
        const at = firstOf(rest).position;
        if (comparator !== ':') throw new FilterError(`${place.name} is a list: write \`${place.name}:(…)\``, at);
        const inner = hop(budget, at);
        return element(place, (item) =>
          ofJson(shape.items, item, place.name, at).compare(rest, comparator, value, inner),
        );
      }
      const compared = compareJson(shape, place, comparator, value);
      // A path through an absent object is not fulfilled, not even by `!=`; a map is as good as empty when absent.
      const through = path.length > 0 && comparator === '!=' && shapeOf(schema).type !== 'map';
      return through ? (scope) => sql`(${document(scope)} IS NOT NULL AND ${compared(scope)})` : compared;
    },

    some(path, condition, budget) {
      const { shape, place, rest } = descend(schema, document, name, path);
      const at = path[0]?.position ?? position;
      if (shape.type !== 'array' && shape.type !== 'any') {
        throw new FilterError(`${place.name} is not a list: name one of its fields`, at);
      }
      const inner = hop(budget, at);
      const items = shape.type === 'array' ? shape.items : {};
      return element(place, (item) => {
        const context = ofJson(items, item, place.name, at);
        return rest.length > 0 ? context.some(rest, condition, inner) : compile(condition, context, inner);
      });
    },

    search(value) {
      throw new FilterError(`expected a field of ${name} and a comparison, found ${shown(value)}`, value.position);
    },
  };
}

/** Follows a path as far as objects go; what is left of it lies within the elements of a list. */
function descend(schema: Schema, document: Condition, name: string, path: Segment[]) {
  const place: Place = { document, keys: [], name, ofMap: false };
  let shape = shapeOf(schema);
  for (const [at, segment] of path.entries()) {
    if (shape.type === 'array') return { shape, place, rest: path.slice(at) };
    if (shape.type === 'map') {
      // Keys of labels may have dots in them, and what a label holds has no parts: the rest is one key.
      place.ofMap = true;
      place.keys.push(
        path
          .slice(at)
          .map((part) => part.name)
          .join('.'),
      );
      place.name = `${place.name}.${place.keys.at(-1)}`;
      return { shape: shapeOf(shape.values), place, rest: [] };
    }
    if (shape.type === 'object') {
      const property = Object.hasOwn(shape.properties, segment.name) ? shape.properties[segment.name] : undefined;
      if (!property) throw unknownName(segment, `field of ${place.name}`, Object.keys(shape.properties));
      shape = shapeOf(property);
    } else if (shape.type !== 'any') {
      throw new FilterError(`${place.name} has no field \`${segment.name}\``, segment.position);
    }
    place.keys.push(segment.name);
    place.name = `${place.name}.${segment.name}`;
  }
  return { shape, place, rest: [] };
}

/** True when some element of a list fulfils the condition; what is not a list has no elements. */
function element(place: Place, conditionOf: (item: Condition) => Condition): Condition {
  const condition = conditionOf(({ alias }) => sql`${alias}."value"`);
  return (scope) => {
    const list = jsonAt(place, scope);
    const alias = identifier(`t${scope.depth + 1}`);
    const elements = sql`jsonb_array_elements(CASE WHEN jsonb_typeof(${list}) = 'array' THEN ${list} ELSE '[]' END)`;
    const met = condition({ ...scope, alias, depth: scope.depth + 1 });
    return sql`EXISTS (SELECT 1 FROM ${elements} AS ${alias}("value") WHERE ${met})`;
  };
}

function compareJson(shape: Shape, place: Place, comparator: Comparator, value: Value): Condition {
  const text: Condition = (scope) => textAt(place, scope);
  const target = { name: place.name, nullable: true };
  switch (shape.type) {
    case 'string':
      if (place.ofMap && comparator === '=' && !isNull(value) && !value.openStart && !value.openEnd) {
        return holdsMember(place, value.text);
      }
      return compareText({ ...target, choices: shape.choices }, text, comparator, value);
    case 'address':
      // A document may hold what an older version let in: only what is an address is taken for one.
      return compareAddress(
        { ...target, form: shape.form },
        (scope) => sql`(CASE WHEN pg_input_is_valid(${text(scope)}, 'inet') THEN ${text(scope)}::inet END)`,
        text,
        comparator,
        value,
      );
    case 'integer':
      return compareJsonNumber(place, comparator, value, 'an integer', integerOf(value.text));
    case 'number':
      return compareJsonNumber(place, comparator, value, 'a number', numberOf(value.text));
    case 'boolean':
      return compareJsonBoolean(place, comparator, value);
    case 'array':
      return compareList(shape.items, place, comparator, value);
    case 'map':
      return compareKeys(place, comparator, value);
    case 'object':
      return (
        comparePresence(text, comparator, value) ??
        (comparator === ':' && Object.hasOwn(shape.properties, value.text) ? hasKey(place, value) : null) ??
        objectMisuse(place, value)
      );
    case 'any':
      return compareAny(place, comparator, value);
  }
}

/**
 * The map holds the key with the value. Containment, unlike a comparison of what `->>` takes out, is estimated from the
 * column's statistics: a label that many carry is then found by walking the order of the list, not by sorting them all.
 */
function holdsMember({ document, keys }: Place, value: string): Condition {
  const member = JSON.stringify(keys.reduceRight<unknown>((inner, key) => ({ [key]: inner }), value));
  return (scope) => sql`${document(scope)} @> ${member}::jsonb`;
}

function objectMisuse(place: Place, value: Value): never {
  throw new FilterError(`${place.name} is an object: name one of its fields`, value.position);
}

function compareJsonNumber(
  place: Place,
  comparator: Comparator,
  value: Value,
  wanted: string,
  known: number | string | null,
): Condition {
  const presence = comparePresence((scope) => textAt(place, scope), comparator, value);
  if (presence) return presence;
  if (known === null) throw mismatch(place, wanted, value);
  const right = sql`to_jsonb(${String(known)}::numeric)`;
  if (comparator === '!=') return (scope) => sql`${jsonAt(place, scope)} IS DISTINCT FROM ${right}`;
  if (!isOrder(comparator)) return (scope) => sql`${jsonAt(place, scope)} = ${right}`;
  const operator = raw(comparator);
  // jsonb orders any two documents; without the type check every text would be less than every number.
  return (scope) => {
    const left = jsonAt(place, scope);
    return sql`(jsonb_typeof(${left}) = 'number' AND ${left} ${operator} ${right})`;
  };
}

function compareJsonBoolean(place: Place, comparator: Comparator, value: Value): Condition {
  const wanted = 'true or false';
  const target = { name: place.name, nullable: true, wanted };
  const presence = comparePresence((scope) => textAt(place, scope), comparator, value);
  return (
    presence ??
    compareEqual(
      target,
      (scope) => jsonAt(place, scope),
      comparator,
      value,
      (text) => parameter(booleanOf(text), (known) => sql`to_jsonb(${known}::boolean)`),
    )
  );
}

/** A list within a document: it holds the value, or anything at all. */
function compareList(items: Schema, place: Place, comparator: Comparator, value: Value): Condition {
  if (comparator !== ':') {
    const presence = isNull(value) && comparePresence((scope) => textAt(place, scope), comparator, value);
    if (presence) return presence;
    throw listMisuse(place.name, value);
  }
  if (isAnything(value)) {
    return (scope) => {
      const list = jsonAt(place, scope);
      return sql`(jsonb_typeof(${list}) = 'array' AND ${list} <> '[]'::jsonb)`;
    };
  }
  const known = shapeOf(items);
  const shape = known.type === 'address' ? ({ type: 'string', choices: null } as const) : known;
  if (shape.type === 'object') {
    throw new FilterError(`${place.name} is a list of objects: ask \`${place.name}:(field = value)\``, value.position);
  }
  if (shape.type === 'string' && shape.choices && !shape.choices.includes(value.text)) {
    throw mismatch(place, `one of ${shape.choices.join(', ')}`, value);
  }
  return holds(place, shape.type === 'any' ? literalOf(value) : typedLiteral(shape.type, place, value));
}

const holds =
  (place: Place, literal: Sql): Condition =>
  (scope) =>
    sql`${jsonAt(place, scope)} @> ${literal}`;

function typedLiteral(type: string, place: Place, value: Value): Sql {
  const text = sql`to_jsonb(${value.text}::text)`;
  if (type === 'string') return text;
  const literal = literalOf({ ...value, quoted: false });
  if (type === 'boolean' ? booleanOf(value.text) === null : numberOf(value.text) === null) {
    throw mismatch(place, type === 'boolean' ? 'true or false' : 'a number', value);
  }
  return literal;
}

/** What a value is when nothing else says so: a bare number is a number, a bare `true` a boolean, all else is text. */
function literalOf(value: Value): Sql {
  const boolean = value.quoted ? null : booleanOf(value.text);
  if (boolean !== null) return sql`to_jsonb(${boolean}::boolean)`;
  const number = value.quoted ? null : numberOf(value.text);
  if (number !== null) return sql`to_jsonb(${String(number)}::numeric)`;
  return sql`to_jsonb(${value.text}::text)`;
}

const hasKey =
  (place: Place, value: Value): Condition =>
  (scope) =>
    sql`${jsonAt(place, scope)} ? ${value.text}::text`;

function compareKeys(place: Place, comparator: Comparator, value: Value): Condition {
  if (comparator !== ':') {
    throw new FilterError(
      `${place.name} is a map: ask \`${place.name}.key = value\` or \`${place.name}:key\``,
      value.position,
    );
  }
  return isAnything(value) ? (scope) => sql`${jsonAt(place, scope)} <> '{}'::jsonb` : hasKey(place, value);
}

function compareAny(place: Place, comparator: Comparator, value: Value): Condition {
  const text: Condition = (scope) => textAt(place, scope);
  const presence = comparePresence(text, comparator, value);
  if (presence) return presence;
  const number = value.quoted ? null : numberOf(value.text);
  if (number !== null && comparator !== ':') return compareJsonNumber(place, comparator, value, 'a number', number);
  const boolean = value.quoted ? null : booleanOf(value.text);
  if (boolean !== null && comparator !== ':') return compareJsonBoolean(place, comparator, value);
  if (comparator !== ':')
    return compareText({ name: place.name, nullable: true, choices: null }, text, comparator, value);
  if (number !== null || boolean !== null) return holds(place, literalOf(value));
  // A key of an object, a text of a list, or the text itself.
  return hasKey(place, value);
}
