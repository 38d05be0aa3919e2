/** What the OpenAPI document says there is: kinds of resources, and what can be done with them. */

export interface Schema {
  $ref?: string;
  type?: string | string[];
  format?: string;
  enum?: unknown[];
  anyOf?: Schema[];
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: boolean | Schema;
  items?: Schema;
  description?: string;
  default?: unknown;
}

export interface Parameter {
  name: string;
  in: 'query' | 'header' | 'path';
  schema: Schema;
  description?: string;
}

interface Content {
  [mediaType: string]: { schema: Schema };
}

interface Route {
  summary?: string;
  tags?: string[];
  parameters?: Parameter[];
  requestBody?: { required?: boolean; content: Content };
  responses: Record<string, { content?: Content }>;
}

export type Method = 'get' | 'post' | 'patch' | 'put' | 'delete';

export interface Document {
  info: { version: string };
  paths: Record<string, { parameters?: Parameter[] } & { [M in Method]?: Route }>;
  components: { schemas: Record<string, Schema> };
}

/** Something that can be done with a kind, as `list`, `create` or `set-rules`. */
export interface Verb {
  name: string;
  method: Method;
  path: string;
  summary: string;
  onResource: boolean;
  parameters: Parameter[];
  body?: { mediaType: string; schema: Schema };
}

export interface Resource {
  /** As in `instance-types`. */
  plural: string;
  /** As in `instanceType`. */
  kind: string;
  area: string;
  summary: string;
  properties: Record<string, Schema>;
  verbs: Verb[];
}

export const kebab = (name: string): string => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
const lowerFirst = (name: string): string => name.charAt(0).toLowerCase() + name.slice(1);

export const dereference = (document: Document, schema: Schema): Schema =>
  schema.$ref ? (document.components.schemas[schema.$ref.split('/').at(-1) ?? ''] ?? {}) : schema;

/** The schema without the null that it may also be. */
export function withoutNull(schema: Schema): { schema: Schema; nullable: boolean } {
  if (!schema.anyOf) return { schema, nullable: false };
  const others = schema.anyOf.filter((branch) => branch.type !== 'null');
  const nullable = others.length < schema.anyOf.length;
  const [only] = others;
  if (!only || others.length > 1) return { schema: {}, nullable };
  return { schema: { ...only, ...(schema.description ? { description: schema.description } : {}) }, nullable };
}

/** All kinds, in the order of the document. */
export function resourcesOf(document: Document): Resource[] {
  const plurals = Object.keys(document.paths).flatMap((path) => /^\/v1\/([a-z-]+)\/\{id\}$/.exec(path)?.[1] ?? []);
  return plurals.map((plural) => resourceOf(document, plural));
}

function resourceOf(document: Document, plural: string): Resource {
  const one = document.paths[`/v1/${plural}/{id}`]?.get;
  const name = one?.responses['200']?.content?.['application/json']?.schema.$ref?.split('/').at(-1) ?? plural;
  const schema = document.components.schemas[name] ?? {};
  return {
    plural,
    kind: lowerFirst(name),
    area: one?.tags?.[0] ?? 'other',
    summary: schema.description ?? plural,
    properties: schema.properties ?? {},
    verbs: verbsOf(document, plural),
  };
}

const usual: Record<string, Partial<Record<Method, string>>> = {
  '': { get: 'list', post: 'create' },
  '/{id}': { get: 'get', patch: 'update', delete: 'delete' },
};

/** `/actions/<verb>` of the collection or of one, and `/views/<name>` of one. */
const further = /^(\/\{id\})?\/(actions|views)\/([A-Za-z]+)$/;

function verbsOf(document: Document, plural: string): Verb[] {
  const root = `/v1/${plural}`;
  return Object.entries(document.paths).flatMap(([path, item]) => {
    if (path !== root && !path.startsWith(`${root}/`)) return [];
    const rest = path.slice(root.length);
    const [, , group, word] = further.exec(rest) ?? [];
    const named = usual[rest] ?? (word ? (group === 'views' ? { get: kebab(word) } : { post: kebab(word) }) : {});
    return Object.entries(named).flatMap(([method, name]): Verb[] => {
      const route = item[method as Method];
      // A text is no record to print: `belay console` knows the one there is.
      if (!route || (group === 'views' && !route.responses['200']?.content?.['application/json'])) return [];
      return [verbOf(document, name, method as Method, path, route)];
    });
  });
}

function verbOf(document: Document, name: string, method: Method, path: string, route: Route): Verb {
  // PATCH also takes plain JSON; the first is the one it is meant for.
  const [mediaType, content] = Object.entries(route.requestBody?.content ?? {})[0] ?? [];
  return {
    name,
    method,
    path,
    summary: route.summary ?? name,
    onResource: path.includes('{id}'),
    parameters: route.parameters ?? [],
    ...(mediaType && content ? { body: { mediaType, schema: dereference(document, content.schema) } } : {}),
  };
}

/**
 * The kind that a property refers to by id, told by its name: `zoneId`, `requestedHostId`, `securityGroupIds`; `parentId` is one of
 * the own kind; of `targetId` the value of `targetKind` beside it says it, of `id` that of `scope`. Null when the name tells nothing.
 */
export function referredKind(
  property: string,
  resources: readonly Resource[],
  ownKind: string,
  siblings: Record<string, unknown> = {},
): Resource | null {
  const named = (kind: unknown): Resource | null => resources.find((resource) => resource.kind === kind) ?? null;
  if (property === 'id') return named(siblings.scope);
  // The family of an address says nothing of a kind: subnet6Id.
  const base = /^(.+?)6?Ids?$/.exec(property)?.[1];
  if (!base) return null;
  const said = siblings[`${base}Kind`];
  if (typeof said === 'string') return named(said);
  if (base === 'parent') return named(ownKind);
  // The longest: a volumeTypeId is no typeId, a storageClusterId no clusterId.
  const fitting = resources.filter(
    ({ kind }) => base === kind || base.endsWith(kind.charAt(0).toUpperCase() + kind.slice(1)),
  );
  return fitting.sort((a, b) => b.kind.length - a.kind.length)[0] ?? null;
}

/**
 * The kind that an action on many acts on: of `cluster.rebalance` clusters; of `snapshot.create` volumes, the only one that a snapshot can not be made
 * without. Null where that says nothing.
 */
export function actedOn({ components }: Document, resources: readonly Resource[], action: unknown): Resource | null {
  const [kind = '', verb] = typeof action === 'string' ? action.split('.') : [];
  if (verb !== 'create') return resources.find((resource) => resource.kind === kind) ?? null;
  const schema = components.schemas[`${kind.charAt(0).toUpperCase()}${kind.slice(1)}Create`];
  const homes = (schema?.required ?? []).flatMap((name) => referredKind(name, resources, kind) ?? []);
  return homes.length === 1 ? (homes[0] ?? null) : null;
}
