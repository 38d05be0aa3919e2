import { isIP } from 'node:net';
import { Ajv2020, type ErrorObject, type ValidateFunction } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';
import type { Kind } from '../model/kind.ts';
import { createSchema, type JsonSchema, patchSchema } from '../model/schemas.ts';
import { Problem, type Violation } from '../runtime/problem.ts';

const ajv = new Ajv2020({ allErrors: true, useDefaults: true, strict: false, maxErrors: 20 } as ConstructorParameters<
  typeof Ajv2020
>[0]);
(formats as unknown as (on: Ajv2020) => void)(ajv);
/** A network of either family, such as 10.0.0.0/8 or fd00::/8. */
ajv.addFormat('cidr', (text) => {
  const [, network = '', bits = ''] = /^([^/]+)\/(\d{1,3})$/.exec(text) ?? [];
  const most = { 0: -1, 4: 32, 6: 128 }[isIP(network)] ?? -1;
  return Number(bits) <= most && bits !== '';
});

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
  const path = error.instancePath.slice(1).replaceAll('/', '.');
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
  return { field: field || 'body', message: error.message ?? 'is not valid' };
}

/** Checks a value against a schema and fills in defaults; throws INVALID_ARGUMENT with one violation per field. */
export function check(name: string, schema: () => JsonSchema, value: unknown): Record<string, unknown> {
  const validate = validator(name, schema);
  if (!validate(value)) {
    // A union adds an error per branch; the branch for null tells the reader nothing.
    const errors = (validate.errors ?? []).filter(
      (error) => error.keyword !== 'anyOf' && !(error.keyword === 'type' && error.params.type === 'null'),
    );
    const violations = (errors.length > 0 ? errors : (validate.errors ?? [])).map(violation);
    const first = violations[0];
    throw new Problem('INVALID_ARGUMENT', `${first?.field ?? 'body'} ${first?.message ?? 'is not valid'}`, {
      violations,
    });
  }
  return value as Record<string, unknown>;
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
