import { type Column, columnsOf } from './columns.ts';
import { type Field, type Kind, labelKey, maxLabels, maxNameLength } from './kind.ts';

export type JsonSchema = Record<string, unknown>;

/** A schema that takes anything takes null already. */
const orNull = (schema: JsonSchema): JsonSchema =>
  Object.keys(schema).length === 0 ? schema : { anyOf: [schema, { type: 'null' }] };

const described = (column: Column | Field, schema: JsonSchema): JsonSchema =>
  column.description ? { ...schema, description: column.description } : schema;

const sizedBody = (properties: Record<string, JsonSchema>, required: string[]): JsonSchema => ({
  type: 'object',
  properties,
  required,
  additionalProperties: false,
});

const common = {
  name: { type: 'string', minLength: 1, maxLength: maxNameLength },
  description: { type: 'string', maxLength: 1024 },
  labels: {
    type: 'object',
    propertyNames: { pattern: labelKey },
    additionalProperties: { type: 'string', maxLength: 255 },
    maxProperties: maxLabels,
  },
} satisfies Record<string, JsonSchema>;

/** What a resource of this kind looks like in an answer. */
export function resourceSchema(kind: Kind): JsonSchema {
  const answered = columnsOf(kind).filter((column) => !column.hidden);
  const properties = Object.fromEntries(
    answered.map((column) => [column.name, described(column, column.nullable ? orNull(column.schema) : column.schema)]),
  );
  return {
    type: 'object',
    description: kind.summary,
    properties,
    // A field mask may leave anything out, so only the id is certain.
    required: ['id'],
    additionalProperties: false,
  };
}

/** Body of `POST /v1/<plural>`. */
export function createSchema(kind: Kind): JsonSchema {
  const settable = Object.entries(kind.fields).filter(([, field]) => field.set !== 'system');
  const required = settable.filter(([, field]) => field.set.endsWith('!')).map(([name]) => name);
  const properties = Object.fromEntries(
    settable.map(([name, field]) => {
      const schema = field.schema as unknown as JsonSchema;
      const whole = field.default === undefined ? schema : { ...schema, default: field.default };
      return [name, described(field, field.set.endsWith('!') ? whole : orNull(whole))];
    }),
  );
  return sizedBody(
    {
      ...common,
      requestedId: { type: 'string', format: 'uuid', description: 'Id chosen by the caller' },
      ...(kind.scope === 'project'
        ? {
            projectId: kind.orPlatform
              ? {
                  anyOf: [{ type: 'string', format: 'uuid' }, { type: 'null' }],
                  description: "The caller's only project when not given; null: none, the platform's own",
                }
              : { type: 'string', format: 'uuid', description: "The caller's only project when not given" },
          }
        : {}),
      ...properties,
    },
    ['name', ...required],
  );
}

/** Null takes a label away; what is there already is not counted here. */
const labelsPatch: JsonSchema = orNull({
  ...common.labels,
  additionalProperties: orNull(common.labels.additionalProperties),
  maxProperties: 2 * maxLabels,
});

/** Of an object any members may be named; null takes one back. */
function patchOf(schema: JsonSchema): JsonSchema {
  if (schema.type !== 'object' || !schema.properties) return schema;
  const members = Object.entries(schema.properties as Record<string, JsonSchema>);
  return {
    ...schema,
    properties: Object.fromEntries(members.map(([name, member]) => [name, orNull(patchOf(member))])),
    required: [],
  };
}

/** Body of `PATCH /v1/<plural>/{id}` (RFC 7396 merge patch). */
export function patchSchema(kind: Kind): JsonSchema {
  const patchable = Object.entries(kind.fields).filter(([, field]) => field.set.startsWith('patch'));
  return sizedBody(
    {
      ...(kind.readOnly ? {} : { ...common, description: orNull(common.description), labels: labelsPatch }),
      ...Object.fromEntries(
        patchable.map(([name, field]) => {
          const schema = patchOf(field.schema as unknown as JsonSchema);
          return [name, described(field, field.set.endsWith('!') ? schema : orNull(schema))];
        }),
      ),
    },
    [],
  );
}

/** `fooBar` → `FooBar`. */
export const pascal = (name: string): string => name.charAt(0).toUpperCase() + name.slice(1);
