import { Ajv2020, type ErrorObject, type ValidateFunction } from 'ajv/dist/2020.js';
import { forms, wordsOfPattern } from '../model/forms.ts';
import type { Kind } from '../model/kind.ts';
import { createSchema, type JsonSchema, patchSchema } from '../model/schemas.ts';
import { Problem, type Violation } from '../runtime/problem.ts';

const ajv = new Ajv2020({ allErrors: true, useDefaults: true, strict: false, maxErrors: 20 } as ConstructorParameters<
  typeof Ajv2020
>[0]);
for (const [name, { fits }] of Object.entries(forms)) ajv.addFormat(name, fits);

const compiled = new Map<string, ValidateFunction>();

function validator(name: string, schema: () => JsonSchema): ValidateFunction {
  let check = compiled.get(name);
  if (!check) {
    check = ajv.compile(schema());
    compiled.set(name, check);
  }
  return check;
}

function violation(error: ErrorObject): Violation {
  // Of a key that breaks a rule, the key's own place is meant.
  const path = [
    ...error.instancePath.split('/').slice(1),
    ...(error.propertyName === undefined ? [] : [error.propertyName]),
  ]
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))
    .join('.');
  const extra =
    error.keyword === 'additionalProperties'
      ? String(error.params.additionalProperty)
      : error.keyword === 'required'
        ? String(error.params.missingProperty)
        : '';
  const field = [path, extra].filter(Boolean).join('.');
  if (error.keyword === 'additionalProperties') return { field, message: 'there is no such field' };
  if (error.keyword === 'required') return { field, message: 'is needed' };
  if (error.keyword === 'enum')
    return { field, message: `must be one of ${(error.params.allowedValues as string[]).join(', ')}` };
  if (error.keyword === 'pattern')
    return { field, message: wordsOfPattern(String(error.params.pattern)) ?? 'is not written as it must be' };
  if (error.keyword === 'format')
    return { field, message: forms[String(error.params.format)]?.words ?? 'is not written as it must be' };
  return { field: field || 'body', message: error.message ?? 'is not valid' };
}

/** Checks a value against a schema and fills in defaults; throws INVALID_ARGUMENT with one violation per field. */
export function check(name: string, schema: () => JsonSchema, value: unknown): Record<string, unknown> {
  const validate = validator(name, schema);
  if (!validate(value)) {
    // A union adds an error per branch; the branch for null tells the reader nothing.
    const errors = (validate.errors ?? []).filter(
      ({ keyword, params }) =>
        keyword !== 'anyOf' && keyword !== 'propertyNames' && !(keyword === 'type' && params.type === 'null'),
    );
    const violations = (errors.length > 0 ? errors : (validate.errors ?? [])).map(violation);
    const first = violations[0];
    throw new Problem('INVALID_ARGUMENT', `${first?.field ?? 'body'} ${first?.message ?? 'is not valid'}`, {
      violations,
    });
  }
  return canonical(schema(), value) as Record<string, unknown>;
}

/** The same value, each text in it in the one form in which it is kept. */
function canonical(schema: JsonSchema, value: unknown): unknown {
  if (schema.anyOf) {
    const one = (schema.anyOf as JsonSchema[]).filter(({ type }) => type !== 'null');
    return value !== null && one.length === 1 && one[0] ? canonical(one[0], value) : value;
  }
  if (typeof value === 'string') return forms[String(schema.format)]?.canonical?.(value) ?? value;
  if (Array.isArray(value)) {
    const { items } = schema as { items?: JsonSchema };
    return items ? value.map((item) => canonical(items, item)) : value;
  }
  if (value === null || typeof value !== 'object') return value;
  const { properties = {} } = schema as { properties?: Record<string, JsonSchema> };
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => {
      const of = Object.hasOwn(properties, name) ? properties[name] : undefined;
      return [name, of ? canonical(of, member) : member];
    }),
  );
}

/** A moment in the past is no end that anything could have. */
function refusePast(kind: Kind, input: Record<string, unknown>): Record<string, unknown> {
  for (const [name, { future }] of Object.entries(kind.fields))
    if (future && typeof input[name] === 'string' && !(Date.parse(input[name]) > Date.now()))
      throw new Problem('INVALID_ARGUMENT', `${name} is over already`, {
        violations: [{ field: name, message: 'must be in the future' }],
      });
  return input;
}

export const checkCreate = (kind: Kind, body: unknown): Record<string, unknown> =>
  refusePast(
    kind,
    check(`${kind.name}.create`, () => createSchema(kind), body),
  );
export const checkPatch = (kind: Kind, body: unknown): Record<string, unknown> =>
  refusePast(
    kind,
    check(`${kind.name}.update`, () => patchSchema(kind), body),
  );
export const checkAction = (kind: Kind, verb: string, body: unknown): Record<string, unknown> =>
  check(
    `${kind.name}.${verb}`,
    () =>
      (kind.actions[verb]?.input as unknown as JsonSchema | undefined) ?? {
        type: 'object',
        properties: {},
        additionalProperties: false,
      },
    body ?? {},
  );
