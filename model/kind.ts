/**
 * How a resource kind is described. Routes, schemas, tables, permissions, filters, CLI commands and audit entries are all
 * derived from these descriptions; nothing else says them again.
 */
import { type Static, type TObject, type TOptional, type TSchema, Type } from 'typebox';
import { pattern } from './forms.ts';

export type Area = 'platform' | 'compute' | 'storage' | 'network' | 'tenancy';

/**
 * Who sets a field, and when. `!` means that a create must name it.
 *
 * - `create`: at creation only · `patch`: at creation and by PATCH at any time · `system`: read-only
 * - `input`: at creation only, and not stored under this name (it shapes other records)
 */
export type SetBy = 'create' | 'create!' | 'patch' | 'patch!' | 'input' | 'input!' | 'system';

/** What the deletion of the referred resource means: refused, or this one goes too, or the reference is cleared, or nothing. */
export type OnDelete = 'block' | 'cascade' | 'own' | 'detach' | 'ignore';

export interface Field<S extends TSchema = TSchema, W extends SetBy = SetBy> {
  schema: S;
  set: W;
  /** Value of a create that does not name it; without one it is null. */
  default?: unknown;
  /** Kind of the resource whose id this is (or whose ids these are). */
  ref?: string;
  onDelete?: OnDelete;
  /**
   * The permission on the referred resource that naming it here needs, as its verb: `use` unless said. `get` where the change itself
   * needs its own permission at that very place.
   */
  use?: string;
  /**
   * Of a reference: resources whose `field` has this `value` belong to the referred resource, and are deleted with it. A flag of the referred
   * resource, named by `unless`, switches that off.
   */
  ownWhen?: { field: string; value: string | boolean; unless?: string };
  /** Stored encrypted, never returned, masked in audit entries and operations. */
  secret?: boolean;
  /** Only those who run the platform may set it, or give it one of these values. */
  operatorOnly?: true | readonly string[];
  /** A moment that must not be over yet when it is given. */
  future?: true;
  description?: string;
}

type Options = Omit<Field, 'schema' | 'set'>;

export const field = <S extends TSchema, W extends SetBy>(schema: S, set: W, options: Options = {}): Field<S, W> => ({
  schema,
  set,
  ...options,
});

export const Uuid = Type.String({ format: 'uuid' });
export const Ip = Type.String({ format: 'ipv4' });
export const Ip6 = Type.String({ format: 'ipv6' });
/** Of either family. */
export const AnyIp = Type.String({ format: 'ip' });
export const AnyCidr = Type.String({ format: 'cidr', maxLength: 49 });
export const Cidr = Type.String({ format: 'ipv4-network', maxLength: 18 });
export const DomainName = Type.String({
  maxLength: 253,
  pattern: pattern(
    '^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$',
    'must be a domain name such as example.net: labels of 1 to 63 letters, digits or inner hyphens, joined by dots',
  ),
});
/** SHA-256 of a certificate. */
export const Fingerprint = Type.String({ format: 'sha256' });
export const Instant = Type.String({ format: 'date-time' });
export const labelKey = pattern(
  '^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$',
  'must have 1 to 63 letters, digits, dots, underscores, slashes or hyphens, and begin with a letter or digit',
);
export const maxLabels = 64;
export const maxNameLength = 128;

/** JSON Schema `enum` with its union type. */
export const oneOf = <const V extends readonly string[]>(...values: V) =>
  Type.Unsafe<V[number]>({ type: 'string', enum: values });

export const ref = <W extends SetBy>(kind: string, set: W, options: Options = {}): Field<typeof Uuid, W> =>
  field(Uuid, set, { ref: kind, onDelete: 'block', ...options });

export const refs = <W extends SetBy>(kind: string, set: W, options: Options = {}) =>
  field(Type.Array(Uuid, { maxItems: 64, uniqueItems: true }), set, {
    ref: kind,
    onDelete: 'block',
    default: [],
    ...options,
  });

export const text = <W extends SetBy>(maxLength: number, set: W, options: Options = {}) =>
  field(Type.String({ maxLength, minLength: set.endsWith('!') ? 1 : 0 }), set, options);

export const integer = <W extends SetBy>(minimum: number, maximum: number, set: W, options: Options = {}) =>
  field(Type.Integer({ minimum, maximum }), set, options);

export const boolean = <W extends SetBy>(set: W, options: Options = {}) => field(Type.Boolean(), set, options);

export const choice = <const V extends readonly string[], W extends SetBy>(values: V, set: W, options: Options = {}) =>
  field(oneOf(...values), set, options);

export const json = <S extends TSchema, W extends SetBy>(schema: S, set: W, options: Options = {}) =>
  field(schema, set, options);

export const instant = <W extends SetBy>(set: W, options: Options = {}) => field(Instant, set, options);

export const object = <P extends Record<string, TSchema>>(properties: P) =>
  Type.Object(properties, { additionalProperties: false });

/** Of an action's input: what need not be given, and what it is then. What has no default is null when it is not given, a flag false. */
export const withDefault = <S extends TSchema, const V extends Static<S>>(
  schema: S,
  value: V,
): TOptional<S> & { default: V } =>
  Type.Optional({ ...schema, default: value }) as unknown as TOptional<S> & { default: V };

/** S pins a resource (it must not go away), X changes it, D ends it. S goes with S and X; D goes with nothing. */
export type LockMode = 'S' | 'X' | 'D';

/** `operation`: the step is an operation itself, a child of the one that it is a step of. */
export type System = 'operation' | 'record' | 'placement' | 'libvirt' | 'rbd' | 'rgw' | 'ovn' | 'ovs' | 'host' | 'bmc';

/**
 * One step of a workflow, as an action declares it: `<area>.<name>` as registered with the worker, whose activity says where it works and what
 * its undo does. With `when` it is part of a run only under some condition, such as "when the image is not cached yet". A step that is an
 * operation has no activity to say that.
 */
export type StepDeclaration =
  | string
  | { name: string; when: string }
  | { name: string; system: 'operation'; undo: string | null; when: string };

/** A step as people see it. */
export interface StepDescription {
  name: string;
  system: System;
  /** What the undo does, in two or three words; null where there is nothing to undo. */
  undo: string | null;
  when?: string;
}

export interface Action {
  summary: string;
  /** Whoever may do it may have its children done, whatever they may do to the targets of those otherwise. */
  permitsChildren?: boolean;
  /** It can not go on without its target: when that has failed, its failover works inside the hold of this one, and waits for nothing. */
  givesWay?: boolean;
  /** It works inside the hold of one that gives way. */
  overtakes?: boolean;
  /** What it is called once it has happened, such as `stopped`; verbs that several kinds have are in `happened.ts`. */
  happened?: string;
  mode: 'sync' | 'operation';
  /**
   * Where it is posted: on one resource, or on the collection. create, update and delete have routes of their own, and `delete` here means
   * that it is asked for by DELETE too.
   */
  on?: 'resource' | 'collection' | 'delete';
  input?: TObject;
  /** Who is asked for it: the run of an operation, or the upload of an image. Others are changes of a record, accepted like each other. */
  asked?: 'run' | 'upload';
  /** What acceptance tells the workflow beside the target's id and the input. */
  tells?: TObject;
  /** States it may start from; omitted: any stable state. */
  from?: readonly string[];
  /** State while the operation holds the resource. */
  via?: string;
  /** State after success; omitted: the state before. */
  to?: string;
  /** Lock on the target; X unless said. */
  lock?: LockMode;
  /** false: it holds nothing of its target, which may change, or go, while it runs. Its operations would else wait for whoever waits for it. */
  holdsTarget?: false;
  steps?: readonly StepDeclaration[];
  /** Name of the first step that can not be undone. */
  pointOfNoReturn?: string;
  cancellable?: boolean;
  operatorOnly?: boolean;
  /**
   * Starts something, or brings it back: refused while the account is locked, as every create is, and as everything is that adds to what is
   * counted. That need not be said: whatever asks the limits for more is refused (`enforce` in `acceptance/quota.ts`).
   */
  starts?: true;
}

/** Something computed about one resource and stored nowhere: `GET /v1/<plural>/{id}/views/<name>`, permission `<kind>.<name>`. */
export interface View {
  summary: string;
  /** JSON that it answers; without it the answer is text. */
  answer?: TObject;
  parameters?: Record<string, TSchema>;
  /** Those that must be given. */
  needed?: readonly string[];
}

/** Whose it is: `project` for tenants' resources, `platform` for infrastructure, the others for the tree of tenants. */
export type Scope = 'platform' | 'domain' | 'account' | 'project';

/** Something that living resources of a kind have for themselves. `uniqueness.ts` says how its index is called. */
export interface Unique {
  /** Columns that must differ as a whole; where one is null, nothing is shared. */
  fields: readonly string[];
  /** The last field is a range of addresses, and ranges that overlap are as bad as equal ones. */
  ranges?: true;
  /** Only those that have these values. */
  among?: Readonly<Record<string, string | boolean>>;
  /** What the second is told, and which field of its request is to blame; the last one unless said. */
  code: 'NAME_IN_USE' | 'ADDRESS_IN_USE' | 'ALREADY_ATTACHED';
  blame?: string;
}

export interface Kind<
  F extends Record<string, Field> = Record<string, Field>,
  A extends Record<string, Action> = Record<string, Action>,
> {
  /** lowerCamelCase singular; the name everywhere. */
  name: string;
  /** Path segment, kebab-case plural. */
  plural: string;
  area: Area;
  scope: Scope;
  summary: string;
  fields: F;
  /** Stable and transitional states; none for kinds that just exist. */
  states?: readonly string[];
  actions: A;
  /** Beside `deletePlan`, which every kind with a delete has. */
  views?: Record<string, View>;
  /** Further fields that lists may be ordered by, each with an index; `createdAt`, `name` and `updatedAt` always are. */
  orderable?: readonly string[];
  /** Everybody who holds the permission anywhere may read it, such as zones and public instance types. */
  catalogue?: boolean;
  /** What no two living ones may share. Each is an index of the database: who comes second is refused, however many come at once. */
  unique?: readonly Unique[];
  /** The columns that say in which project, account and domain one lies; those of that name, unless said. A project lies in itself. */
  lies?: Partial<Record<'project' | 'account' | 'domain', string>>;
  /** Or there are two columns for it, `<this>Kind` and `<this>Id`. */
  liesBy?: string;
  /** The column that names the user, or the account, who sees it whatever else they may see. */
  own?: { user: string } | { account: string };
  /** Gives a role: seen by those at both of its ends. */
  grants?: true;
  /** It is followed as it happens: `GET /v1/<plural>?follow=true`. */
  followed?: true;
  /** A get may wait for its end: `?waitSeconds=`. */
  ends?: true;
  /** What the answer to a create tells beside the fields, and no other answer ever does. */
  toldOnce?: Readonly<Record<string, string>>;
  /** Its `targets.filter` finds what the action in its `action` acts on. */
  finds?: true;
  /** The field whose resource it lies in the same project with, whoever makes it. */
  livesWith?: string;
  /** Of a project's kind: one may also be the platform's own, and in none. Who makes it says so with a `projectId` of null. */
  orPlatform?: true;
  /** Written by the platform only: no create, update, delete by callers; and no name, description, labels. */
  readOnly?: boolean;
}

/** Actions say nothing that is not in `Action`, and name no state that the kind has not and no step that they have not. */
type Sound<A extends Record<string, Action>, S extends string> = {
  [V in keyof A]: { [P in Exclude<keyof A[V], keyof Action>]: never } & {
    from?: readonly S[];
    via?: S;
    to?: S | 'deleted';
    pointOfNoReturn?: StepOf<A[V]>;
  };
};

/** Names of the steps that an action declares. */
export type StepOf<A extends Action> = NameOf<NonNullable<A['steps']>[number]>;
type NameOf<S> = S extends { name: infer N extends string } ? N : S extends string ? S : never;

export const nameOf = (step: StepDeclaration): string => (typeof step === 'string' ? step : step.name);

/** Keeps what is written as it is written: what follows from an action, such as what its workflow may do, is told from its literal type. */
export const kind = <
  const F extends Record<string, Field>,
  const S extends string,
  const A extends Record<string, Action>,
>(
  description: Kind<F, A> & { states?: readonly S[]; actions: Sound<A, S> },
): Kind<F, A> => description;

type Keys<F extends Record<string, Field>, W extends SetBy> = {
  [K in keyof F]: F[K]['set'] extends W ? K : never;
}[keyof F];

type Value<F extends Field> = Static<F['schema']>;

/** The body of a create: what the caller must name, and what it may. */
export type CreateInput<K extends Kind> = {
  name: string;
  description?: string;
  labels?: Record<string, string>;
  projectId?: string;
  requestedId?: string;
} & {
  [P in Keys<K['fields'], 'create!' | 'patch!' | 'input!'>]: Value<K['fields'][P]>;
} & { [P in Keys<K['fields'], 'create' | 'patch' | 'input'>]?: Value<K['fields'][P]> | null };
