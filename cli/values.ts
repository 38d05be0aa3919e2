/** Options of the command line made from JSON Schemas, and the values written in them. */
import { readFileSync } from 'node:fs';
import { type Document, dereference, kebab, type Schema, withoutNull } from './document.ts';
import { Usage } from './exit-codes.ts';
import type { Terminal } from './terminal.ts';

export type Form = 'text' | 'integer' | 'number' | 'boolean' | 'list' | 'map' | 'object' | 'objects' | 'json';

/** One property of a body, or a property of an object in it. */
export interface Property {
  /** As in `root-volume.size-gib`. */
  flag: string;
  /** As in `['rootVolume', 'sizeGib']`. */
  path: string[];
  form: Form;
  schema: Schema;
  required: boolean;
  nullable: boolean;
  choices: string[];
  description: string;
}

function formOf(schema: Schema): Form {
  switch (schema.type) {
    case 'string':
      return 'text';
    case 'integer':
    case 'number':
    case 'boolean':
      return schema.type;
    case 'array': {
      const items = schema.items?.type;
      if (items === 'object') return 'objects';
      return items === 'string' || items === 'integer' || items === 'number' ? 'list' : 'json';
    }
    case 'object':
      if (schema.properties) return 'object';
      return typeof schema.additionalProperties === 'object' && schema.additionalProperties.type === 'string'
        ? 'map'
        : 'json';
    default:
      return 'json';
  }
}

/** Deeper objects are written as JSON. */
const deepest = 3;

/** The options of a body: each property, and each property of an object in it by its dotted name. */
export function propertiesOf(document: Document, body: Schema, above: string[] = []): Property[] {
  return Object.entries(body.properties ?? {}).flatMap(([name, given]): Property[] => {
    const { schema, nullable } = withoutNull(dereference(document, given));
    const path = [...above, name];
    const form = formOf(schema);
    const property: Property = {
      flag: path.map(kebab).join('.'),
      path,
      form,
      schema,
      required: above.length === 0 && (body.required ?? []).includes(name),
      nullable,
      choices: (schema.enum ?? schema.items?.enum ?? []).map(String),
      description: schema.description ?? '',
    };
    const inner = form === 'object' && path.length < deepest ? propertiesOf(document, schema, path) : [];
    return [property, ...inner];
  });
}

/** What stands behind the flag in the help. */
export function placeholderOf({ form, choices, schema }: Property, refers: boolean): string {
  if (form === 'list') return refers ? 'ids|names' : 'values';
  if (form === 'map') return 'key=value';
  if (form === 'object' || form === 'json') return 'json';
  if (form === 'objects') return 'json|key=value';
  if (form === 'integer' || form === 'number') return 'number';
  if (choices.length > 0) return choices.length <= 4 ? choices.join('|') : 'choice';
  if (schema.format === 'uuid') return refers ? 'id|name' : 'id';
  return schema.format === 'date-time' ? 'time' : 'text';
}

/** Text of a file, or of standard input for `-`. */
export type ReadFiles = (path: string) => string;

export const filesOf =
  ({ readInput }: Pick<Terminal, 'readInput'>): ReadFiles =>
  (path) => {
    try {
      return path === '-' ? readInput() : readFileSync(path, 'utf8');
    } catch (error) {
      throw new Usage(`${path === '-' ? 'standard input' : path} can not be read: ${(error as Error).message}`);
    }
  };

/** `@file` stands for its text, `@-` for standard input, `@@…` for a text that begins with one at sign. */
function written(text: string, read: ReadFiles): string {
  if (text.startsWith('@@')) return text.slice(1);
  return text.startsWith('@') && text.length > 1 ? read(text.slice(1)) : text;
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new Usage(`is no JSON: ${(error as Error).message}`);
  }
}

function numberOf(text: string, whole: boolean): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new Usage(`takes a number, found "${text}"`);
  if (whole && !Number.isSafeInteger(value)) throw new Usage(`takes a whole number, found "${text}"`);
  return value;
}

function scalarOf(schema: Schema, text: string): unknown {
  if (schema.type === 'integer' || schema.type === 'number') return numberOf(text, schema.type === 'integer');
  if (schema.type === 'boolean') {
    if (text !== 'true' && text !== 'false') throw new Usage(`takes true or false, found "${text}"`);
    return text === 'true';
  }
  if (schema.enum && !schema.enum.includes(text))
    throw new Usage(`takes one of ${schema.enum.join(', ')}, found "${text}"`);
  return text;
}

function listOf(schema: Schema, text: string): unknown[] {
  if (text.trimStart().startsWith('[')) {
    try {
      const value: unknown = JSON.parse(text);
      if (Array.isArray(value)) return value;
    } catch {
      // Such as the addresses of a Ceph monitor, which have brackets of their own.
    }
  }
  return text === '' ? [] : text.split(',').map((part) => scalarOf(schema.items ?? {}, part.trim()));
}

function pairsOf(text: string): [string, string][] {
  return text.split(',').map((pair) => {
    const at = pair.indexOf('=');
    if (at <= 0) throw new Usage(`takes key=value, found "${pair}"`);
    return [pair.slice(0, at).trim(), pair.slice(at + 1)];
  });
}

/** `subnetId=web,securityGroupIds=a,securityGroupIds=b`: an object by its pairs; names may be in kebab-case too. */
function objectOf(schema: Schema, text: string): Record<string, unknown> {
  const properties = schema.properties ?? {};
  const object: Record<string, unknown> = {};
  for (const [key, value] of pairsOf(text)) {
    const name = Object.keys(properties).find((candidate) => candidate === key || kebab(candidate) === key);
    if (!name) throw new Usage(`has no property ${key}; there are ${Object.keys(properties).join(', ')}`);
    const { schema: inner } = withoutNull(properties[name] ?? {});
    const form = formOf(inner);
    if (form === 'list') object[name] = [...((object[name] as unknown[] | undefined) ?? []), ...listOf(inner, value)];
    else if (form === 'object' || form === 'objects' || form === 'json' || form === 'map')
      throw new Usage(`write ${name} as JSON`);
    else object[name] = scalarOf(inner, value);
  }
  return object;
}

/** The value that stands in an option; `previous` is that of the same option earlier on the line. Throws Usage. */
export function optionValue({ form, schema }: Property, given: string, previous: unknown, read: ReadFiles): unknown {
  const text = form === 'list' ? given : written(given, read);
  const looksLikeJson = /^\s*[[{]/.test(text);
  switch (form) {
    case 'list':
      return [...((previous as unknown[] | undefined) ?? []), ...listOf(schema, text)];
    case 'map': {
      const pairs = looksLikeJson
        ? (jsonOf(text) as Record<string, unknown>)
        : text === ''
          ? {}
          : Object.fromEntries(pairsOf(text));
      return { ...((previous as Record<string, unknown> | undefined) ?? {}), ...pairs };
    }
    case 'object':
      return looksLikeJson ? jsonOf(text) : objectOf(schema, text);
    case 'objects': {
      const value = looksLikeJson ? jsonOf(text) : text === '' ? [] : objectOf(schema.items ?? {}, text);
      const before = (previous as unknown[] | undefined) ?? [];
      return Array.isArray(value) ? [...before, ...(value as unknown[])] : [...before, value];
    }
    case 'json':
      try {
        return JSON.parse(text) as unknown;
      } catch {
        // A schema that takes anything takes a bare word, too.
        if (schema.type === undefined) return text;
        return jsonOf(text);
      }
    default:
      return scalarOf(schema, text);
  }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  value !== null && typeof value === 'object' && !Array.isArray(value);

/** Sets a value deep inside; what stands in its way and is no object is replaced. */
export function setAt(body: Record<string, unknown>, path: readonly string[], value: unknown): void {
  const [name, ...rest] = path;
  if (name === undefined) return;
  if (rest.length === 0) {
    body[name] = value;
    return;
  }
  const inner = body[name];
  const next = isObject(inner) ? inner : {};
  body[name] = next;
  setAt(next, rest, value);
}

/** The body in a file or on standard input: one JSON object. */
export function bodyFromFile(path: string, read: ReadFiles): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(read(path));
  } catch (error) {
    if (error instanceof Usage) throw error;
    throw new Usage(`${path === '-' ? 'standard input' : path} is no JSON: ${(error as Error).message}`);
  }
  if (!isObject(value)) throw new Usage(`${path === '-' ? 'standard input' : path} holds no JSON object`);
  return value;
}

/** `90`, `90s`, `5m`, `2h` in seconds. */
export function secondsOf(text: string): number {
  const [, amount, unit = 's'] = /^(\d+)([smh])?$/.exec(text) ?? [];
  if (amount === undefined) throw new Usage(`takes seconds, or 90s, 5m, 2h; found "${text}"`);
  return Number(amount) * { s: 1, m: 60, h: 3600 }[unit as 's' | 'm' | 'h'];
}
