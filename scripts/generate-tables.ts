/** Writes generated/tables.ts: what pg answers and takes for each column of each table, so that the compiler checks every statement. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { type Column, columnsOf } from '../model/columns.ts';
import { allKinds } from '../model/kinds.ts';
import { pascal } from '../model/schemas.ts';

type JsonSchema = Record<string, unknown>;

/** The type of a JSON value; `unknown` where its schema leaves it open. */
function jsonType(schema: JsonSchema): string {
  const { anyOf, enum: values, const: constant, type, items, properties, additionalProperties } = schema;
  if (Array.isArray(anyOf)) {
    const branches = new Set((anyOf as JsonSchema[]).map(jsonType));
    return branches.has('unknown') ? 'unknown' : [...branches].join(' | ');
  }
  if (Array.isArray(values)) return values.map((value) => JSON.stringify(value)).join(' | ');
  if (constant !== undefined) return JSON.stringify(constant);
  switch (type) {
    case 'null':
    case 'string':
    case 'boolean':
      return type;
    case 'integer':
    case 'number':
      return 'number';
    case 'array':
      return items ? `(${jsonType(items as JsonSchema)})[]` : 'unknown[]';
    case 'object': {
      if (!properties) {
        const others = additionalProperties ?? Object.values((schema.patternProperties ?? {}) as JsonSchema)[0];
        return `Record<string, ${others && others !== true ? jsonType(others as JsonSchema) : 'unknown'}>`;
      }
      const required = new Set((schema.required as string[] | undefined) ?? []);
      const members = Object.entries(properties as Record<string, JsonSchema>).map(
        ([name, member]) => `${JSON.stringify(name)}${required.has(name) ? '' : '?'}: ${jsonType(member)}`,
      );
      return `{ ${members.join('; ')} }`;
    }
    default:
      return 'unknown';
  }
}

/** What pg answers for a column and what it takes, without null. JSON goes in as text: pg would make an array of PostgreSQL of one of JSON. */
function valuesOf({ type, schema }: Pick<Column, 'type' | 'schema'>): { answered: string; taken: string } {
  const same = (of: string) => ({ answered: of, taken: of });
  switch (type) {
    case 'uuid':
    case 'inet':
      return same('string');
    case 'text':
      return same(Array.isArray(schema.enum) ? jsonType(schema) : 'string');
    case 'uuid[]':
      return same('string[]');
    case 'integer':
    case 'double':
      return same('number');
    case 'boolean':
      return same('boolean');
    case 'bigint':
      return { answered: 'string', taken: 'string | number' };
    case 'timestamptz':
      return { answered: 'Date', taken: 'Date | string' };
    case 'jsonb':
      return { answered: jsonType(schema), taken: 'string' };
  }
}

const column = (
  name: string,
  { answered, taken }: { answered: string; taken: string },
  nullable: boolean,
  given: boolean,
): string => {
  const or = (type: string, ...more: string[]) => [type, ...more].join(' | ');
  const none = nullable && answered !== 'unknown' ? ['null'] : [];
  const [read, written] = [or(answered, ...none), or(taken, ...(nullable ? ['null'] : []))];
  const inserted = or(written, ...(given || nullable ? ['undefined'] : []));
  return `  ${name}: ${read === written && read === inserted ? read : `ColumnType<${read}, ${inserted}, ${written}>`};`;
};

const tableOf = (name: string, columns: string[]): string =>
  [`export interface ${name}Table {`, ...columns, '}'].join('\n');

const ofKinds = allKinds.map((kind) => ({
  name: kind.name,
  text: tableOf(
    pascal(kind.name),
    columnsOf(kind).map((one) =>
      column(
        one.name,
        valuesOf(one),
        one.nullable,
        one.default !== undefined || one.name === 'createdAt' || one.name === 'updatedAt',
      ),
    ),
  ),
}));

const written: Record<string, { answered: string; taken: string }> = {
  String: valuesOf({ type: 'text', schema: {} }),
  'String[]': valuesOf({ type: 'uuid[]', schema: {} }),
  Int: valuesOf({ type: 'integer', schema: {} }),
  BigInt: valuesOf({ type: 'bigint', schema: {} }),
  Boolean: valuesOf({ type: 'boolean', schema: {} }),
  DateTime: valuesOf({ type: 'timestamptz', schema: {} }),
  Json: valuesOf({ type: 'jsonb', schema: {} }),
  Bytes: { answered: 'Buffer', taken: 'Buffer | string' },
};

/** The tables of the machinery, as they stand in prisma/tables.prisma: a line for each column. */
const machinery = readFileSync(new URL('../prisma/tables.prisma', import.meta.url), 'utf8');
const ofMachinery = [...machinery.matchAll(/^model (\w+) \{\n([\s\S]*?)^\}/gm)].map(([, model = '', body = '']) => ({
  name: /@@map\("(\w+)"\)/.exec(body)?.[1] ?? model,
  text: tableOf(
    model,
    [...body.matchAll(/^ {2}(\w+) +(\w+(?:\[\])?)(\?)?(.*)$/gm)].flatMap(
      ([, name = '', type = '', nullable, attributes = '']) => {
        const values = written[type];
        // What is none of these is a relation of Prisma's, which is no column.
        return values
          ? [column(name, values, nullable !== undefined, attributes.includes('@default') || type.endsWith('[]'))]
          : [];
      },
    ),
  ),
}));

const tables = [...ofKinds, ...ofMachinery];
mkdirSync(new URL('../generated', import.meta.url), { recursive: true });
writeFileSync(
  new URL('../generated/tables.ts', import.meta.url),
  [
    '// Made from model/ and prisma/tables.prisma by `npm run generate`; change those, not this file.',
    `import type { ColumnType } from 'kysely';`,
    '',
    ...tables.map(({ text }) => `${text}\n`),
    'export interface Tables {',
    ...tables.map(({ name, text }) => `  ${name}: ${/interface (\w+)/.exec(text)?.[1]};`),
    '}',
    '',
  ].join('\n'),
);
