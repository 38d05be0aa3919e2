/** Every writable field of every kind: what may be written in several ways is kept in one, and what only looks like a value is refused. */
import { describe, expect, test } from 'vitest';
import { checkAction, checkCreate, checkPatch } from '../../../acceptance/validate.ts';
import { forms } from '../../../model/forms.ts';
import type { Kind } from '../../../model/kind.ts';
import { allKinds } from '../../../model/kinds.ts';
import { createSchema, type JsonSchema, patchSchema } from '../../../model/schemas.ts';
import { Problem } from '../../../runtime/problem.ts';

/** Other ways to write a value of a form, and what is no value of it. */
const written: Record<string, { ways: string[]; looksLike: string[] }> = {
  uuid: {
    ways: ['8F14E45F-CEEA-467F-AB3C-1111111111AA', '8f14e45f-ceea-467f-ab3c-1111111111aa'],
    looksLike: ['8f14e45fceea467fab3c1111111111aa', '{8f14e45f-ceea-467f-ab3c-1111111111aa}', ''],
  },
  'date-time': {
    ways: ['2099-01-31T13:00:00+01:00', '2099-01-31t12:00:00z', '2099-01-31T12:00:00.000000000Z'],
    looksLike: ['2099-02-30T00:00:00Z', '2099-01-31', '2099-01-31T12:00:00', 'tomorrow'],
  },
  ipv4: { ways: ['10.0.0.7'], looksLike: ['10.0.0.07', '10.0.7', '10.0.0.256', '::1', '10.0.0.7/32', ' 10.0.0.7'] },
  'ipv4-network': {
    ways: ['10.0.0.0/24'],
    looksLike: ['10.0.0.5/24', '10.00.0.0/24', '10.0.0.0/024', '10.0.0.0', '::/0', '10.0.0.0/33'],
  },
  sha256: {
    ways: ['ab'.repeat(32), 'AB'.repeat(32), `${'AB:'.repeat(31)}AB`],
    looksLike: ['ab'.repeat(31), `${'ab'.repeat(31)}xy`, 'a:b'.repeat(22), ''],
  },
  ip: { ways: ['FD00::7', 'fd00:0::7'], looksLike: ['fd00::1/8', '10.0.0.01', 'fd00:::7', ''] },
  ipv6: { ways: ['FD00::7', 'fd00:0::7'], looksLike: ['10.0.0.7', 'fd00::7/128', 'fd00', ''] },
  cidr: { ways: ['FD00::/8', 'fd00:0::/8'], looksLike: ['fd00::1/8', '10.0.0.1/8', 'fd00::/129'] },
};

/** A value that a schema allows; `way` says in which of its ways it is written. */
function sample(schema: JsonSchema, way: number): unknown {
  const anyOf = schema.anyOf as JsonSchema[] | undefined;
  if (anyOf) return sample(anyOf.find(({ type }) => type !== 'null') ?? {}, way);
  if (schema.enum) return (schema.enum as unknown[])[0];
  switch (schema.type) {
    case 'string': {
      const form = written[String(schema.format)];
      if (form) return form.ways[way % form.ways.length];
      const pattern = schema.pattern === undefined ? null : new RegExp(String(schema.pattern));
      const found = [
        'abc',
        'instance.stop',
        '/srv/abc',
        '02:00:5e:10:00:01',
        'x'.repeat(Number(schema.minLength ?? 1)),
        'a'.repeat(64),
      ].find((text) => !pattern || pattern.test(text));
      if (found === undefined) throw new Error(`no sample of ${String(schema.pattern)}`);
      return found;
    }
    case 'integer':
    case 'number':
      return schema.minimum ?? 0;
    case 'boolean':
      return true;
    case 'array':
      return Array.from({ length: Math.max(1, Number(schema.minItems ?? 0)) }, () =>
        sample((schema.items as JsonSchema | undefined) ?? { type: 'string' }, way),
      );
    case 'object':
      return Object.fromEntries(
        Object.entries((schema.properties as Record<string, JsonSchema> | undefined) ?? {}).map(([name, member]) => [
          name,
          sample(member, way),
        ]),
      );
    default:
      return 'anything';
  }
}

/** Every text of a form in a schema: how to get there in a sample, and of which form it is. */
function places(schema: JsonSchema, path: string[] = []): { path: string[]; form: string }[] {
  const anyOf = schema.anyOf as JsonSchema[] | undefined;
  if (anyOf) return anyOf.flatMap((one) => places(one, path));
  if (typeof schema.format === 'string') return [{ path, form: schema.format }];
  if (schema.type === 'array' && schema.items) return places(schema.items as JsonSchema, [...path, '0']);
  return Object.entries((schema.properties as Record<string, JsonSchema> | undefined) ?? {}).flatMap(([name, member]) =>
    places(member, [...path, name]),
  );
}

const at = (value: unknown, path: string[]): unknown =>
  path.reduce<unknown>((inner, key) => (inner as Record<string, unknown>)[key], value);

function withValue(value: unknown, path: string[], text: string): unknown {
  const [key, ...rest] = path;
  if (key === undefined) return text;
  const copy = (Array.isArray(value) ? [...(value as unknown[])] : { ...(value as object) }) as Record<string, unknown>;
  copy[key] = withValue(copy[key], rest, text);
  return copy;
}

interface Body {
  name: string;
  schema: JsonSchema;
  check(value: unknown): Record<string, unknown>;
}
const bodies = allKinds.flatMap((kind: Kind): Body[] => [
  ...(kind.actions.create
    ? [{ name: `${kind.name}.create`, schema: createSchema(kind), check: (value: unknown) => checkCreate(kind, value) }]
    : []),
  ...(kind.actions.update
    ? [{ name: `${kind.name}.update`, schema: patchSchema(kind), check: (value: unknown) => checkPatch(kind, value) }]
    : []),
  ...Object.entries(kind.actions).flatMap(([verb, { input }]) =>
    input
      ? [
          {
            name: `${kind.name}.${verb}`,
            schema: input as unknown as JsonSchema,
            check: (value: unknown) => checkAction(kind, verb, value),
          },
        ]
      : [],
  ),
]);

describe.each(bodies)('$name', ({ schema, check }) => {
  const formed = places(schema);

  test('keeps one form of each text, however it is written, and that form once more', () => {
    const kept = [0, 1, 2].map((way) => check(sample(schema, way)));
    for (const one of kept) {
      expect(check(structuredClone(one))).toEqual(one);
      expect(one).toEqual(kept[0]);
    }
    for (const { path, form } of formed) {
      const text = String(at(kept[0], path));
      expect(forms[form]?.canonical?.(text) ?? text).toBe(text);
    }
  });

  test('refuses at its field what only looks like a value', () => {
    for (const { path, form } of formed)
      for (const text of written[form]?.looksLike ?? []) {
        let refused: unknown;
        try {
          check(withValue(sample(schema, 0), path, text));
        } catch (error) {
          refused = error;
        }
        expect(refused, `${path.join('.')} = ${text}`).toBeInstanceOf(Problem);
        const { details } = refused as Problem;
        expect(details.violations).toEqual([{ field: path.join('.'), message: forms[form]?.words }]);
      }
  });
});

test('no form is without its samples, and the walk meets them', () => {
  const met = new Set(bodies.flatMap(({ schema }) => places(schema).map(({ form }) => form)));
  expect([...met].sort()).toEqual(['cidr', 'date-time', 'ip', 'ipv4', 'ipv4-network', 'ipv6', 'sha256', 'uuid']);
  for (const form of met) expect(written[form]).toBeDefined();
});
