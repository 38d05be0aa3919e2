import { addressForms } from './forms.ts';
import { type Field, type Kind, maxLabels, maxNameLength, type OnDelete } from './kind.ts';
import { allKinds } from './kinds.ts';

export type ColumnType =
  | 'uuid'
  | 'uuid[]'
  | 'text'
  | 'inet'
  | 'integer'
  | 'bigint'
  | 'double'
  | 'boolean'
  | 'timestamptz'
  | 'jsonb';

/** A property of a resource as it is stored and told. */
export interface Column {
  name: string;
  type: ColumnType;
  nullable: boolean;
  default?: unknown;
  /** Never told to anybody. */
  hidden: boolean;
  /** JSON Schema of its value, without null. */
  schema: Record<string, unknown>;
  /** Kind of the resource it refers to. */
  ref?: string;
  description?: string;
}

const uuid = { type: 'string', format: 'uuid' };
const instantSchema = { type: 'string', format: 'date-time' };
const labelsSchema = {
  type: 'object',
  additionalProperties: { type: 'string', maxLength: 255 },
  maxProperties: maxLabels,
};

function implied(kind: Kind): Column[] {
  const column = (
    name: string,
    type: ColumnType,
    schema: Record<string, unknown>,
    more: Partial<Column> = {},
  ): Column => ({
    name,
    type,
    nullable: false,
    hidden: false,
    schema,
    ...more,
  });
  const named = !kind.readOnly || (kind.unique ?? []).some(({ fields }) => fields.includes('name'));
  return [
    column('id', 'uuid', uuid),
    ...(kind.scope === 'project'
      ? [
          column('projectId', 'uuid', uuid, {
            nullable: kind.readOnly === true || kind.orPlatform === true,
            ref: 'project',
          }),
        ]
      : []),
    ...(named ? [column('name', 'text', { type: 'string', minLength: 1, maxLength: maxNameLength })] : []),
    ...(named ? [column('description', 'text', { type: 'string', maxLength: 1024 }, { default: '' })] : []),
    ...(kind.readOnly
      ? []
      : [
          column('labels', 'jsonb', labelsSchema, { default: {} }),
          column('systemLabels', 'jsonb', labelsSchema, { default: {} }),
          column('managedBy', 'jsonb', { type: 'object' }, { nullable: true }),
        ]),
    ...(kind.states
      ? [
          column('state', 'text', {
            type: 'string',
            enum: [...kind.states, ...(kind.states.includes('deleting') ? ['deleted'] : [])],
          }),
        ]
      : []),
    ...(isLocked(kind)
      ? [
          column('fault', 'jsonb', { type: 'object' }, { nullable: true }),
          column('currentOperationId', 'uuid', uuid, { nullable: true, ref: 'operation' }),
        ]
      : []),
    column('createdAt', 'timestamptz', instantSchema),
    column('updatedAt', 'timestamptz', instantSchema),
    column('deletedAt', 'timestamptz', instantSchema, { nullable: true }),
    column('revision', 'integer', { type: 'integer', minimum: 1 }, { default: 1 }),
  ];
}

/** Whether operations hold resources of this kind, so that it has locks, a current operation and possibly a fault. */
export const isLocked = (kind: Kind): boolean =>
  kind.states?.includes('creating') === true ||
  Object.values(kind.actions).some(
    ({ mode, on = 'resource', holdsTarget }) => mode === 'operation' && on === 'resource' && holdsTarget !== false,
  );

/** Whether a field has a column: inputs shape other records, and secrets are kept encrypted elsewhere. */
export const isStored = (field: Field): boolean =>
  !field.set.startsWith('input') && !(field.secret && field.set !== 'system');

function columnType(schema: Record<string, unknown>): ColumnType {
  if (schema.type === 'string') {
    if (schema.format === 'uuid') return 'uuid';
    if (addressForms.has(schema.format)) return 'inet';
    return schema.format === 'date-time' ? 'timestamptz' : 'text';
  }
  if (schema.type === 'integer') return Number(schema.maximum ?? 0) > 2_147_483_647 ? 'bigint' : 'integer';
  if (schema.type === 'number') return 'double';
  if (schema.type === 'boolean') return 'boolean';
  const items = schema.items as Record<string, unknown> | undefined;
  if (schema.type === 'array' && items?.format === 'uuid') return 'uuid[]';
  return 'jsonb';
}

function ofField(name: string, field: Field): Column {
  const schema = { ...(field.schema as unknown as Record<string, unknown>) };
  return {
    name,
    type: columnType(schema),
    nullable: field.default === undefined && !field.set.endsWith('!'),
    ...(field.default === undefined ? {} : { default: field.default }),
    hidden: field.secret === true,
    schema,
    ...(field.ref ? { ref: field.ref } : {}),
    ...(field.description ? { description: field.description } : {}),
  };
}

const memo = new Map<string, Column[]>();

/** All stored properties of a kind, implied ones first. */
export function columnsOf(kind: Kind): Column[] {
  const known = memo.get(kind.name);
  if (known) return known;
  const own = Object.entries(kind.fields).filter(([, field]) => isStored(field));
  const columns = [...implied(kind), ...own.map(([name, field]) => ofField(name, field))];
  memo.set(kind.name, columns);
  return columns;
}

/** A reference to a kind, and what the deletion of the referred means to the one that refers. */
export interface Edge {
  kind: Kind;
  field: string;
  many: boolean;
  onDelete: OnDelete;
  ownWhen?: NonNullable<Field['ownWhen']>;
}

/** What refers to a kind: the edges that deletions are checked against. */
export function childrenOf(kind: Kind): Edge[] {
  return allKinds.flatMap((child) => [
    // What only goes with something else, such as an interface with its instance, keeps no project.
    ...(kind.lies?.project === 'id' && child.scope === 'project' && child.actions.delete
      ? [{ kind: child, field: 'projectId', many: false, onDelete: 'cascade' as const }]
      : []),
    ...Object.entries(child.fields)
      .filter(([, field]) => field.ref === kind.name && isStored(field))
      .map(([name, field]) => ({
        kind: child,
        field: name,
        many: columnType(field.schema as unknown as Record<string, unknown>) === 'uuid[]',
        onDelete: field.onDelete ?? 'block',
        ...(field.ownWhen ? { ownWhen: field.ownWhen } : {}),
      })),
  ]);
}

/** Properties that lists may be ordered by; each has an index. */
export const orderableOf = (kind: Kind): string[] => [
  'createdAt',
  'updatedAt',
  ...(columnsOf(kind).some((column) => column.name === 'name') ? ['name'] : []),
  ...(kind.orderable ?? []),
];
