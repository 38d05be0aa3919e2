/** Schemathesis' configuration: ids and values that mean something here, and how to ask what does not end by itself. */
import type { Api } from '../../lab/api.ts';
import { allKinds } from '../../model/kinds.ts';

interface Schema {
  properties?: Record<string, Schema>;
  items?: Schema;
  anyOf?: Schema[];
  $ref?: string;
}
interface Operation {
  operationId: string;
  requestBody?: { content: Record<string, { schema: Schema }> };
}
interface Document {
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, Schema> };
}

/** Shared by everybody and looked up by their ids: `rootVolumeTypeId` is a volume type's. */
function kindNamedBy(field: string): string | null {
  const [, word] = /^(\w+?)Ids?$/.exec(field) ?? [];
  if (!word) return null;
  const named = allKinds
    .map(({ name }) => name)
    .filter((name) => word.toLowerCase().endsWith(name.toLowerCase()))
    .sort((a, b) => b.length - a.length);
  return named[0] ?? { parent: 'domain', subject: 'user', target: 'project', scope: 'account' }[word] ?? null;
}

/** Where in a body a dictionary has something to say: `source.imageId`, `networkInterfaces[*].subnetId`. */
function* bound(document: Document, schema: Schema, path: string, field: string, words: string[]): Generator<string[]> {
  if (schema.$ref)
    return yield* bound(
      document,
      document.components.schemas[schema.$ref.split('/').at(-1) ?? ''] ?? {},
      path,
      field,
      words,
    );
  const dictionary = kindNamedBy(field) ?? (words.includes(field) ? field : null);
  const leaf = !schema.properties && !schema.items && !schema.anyOf;
  if (leaf && dictionary) yield [path, dictionary];
  for (const one of schema.anyOf ?? []) yield* bound(document, one, path, field, words);
  if (schema.items) yield* bound(document, schema.items, `${path}[*]`, field, words);
  for (const [name, inner] of Object.entries(schema.properties ?? {}))
    yield* bound(document, inner, `${path}.${name}`, name, words);
}

interface Found {
  id: string;
  accountId?: string;
  userId?: string;
  accessKey?: string;
}

async function find(api: Api, plural: string): Promise<Found[]> {
  const response = await api.raw('GET', `/v1/${plural}?pageSize=200`);
  return response.ok ? ((await response.json()) as { items: Found[] }).items : [];
}

/** What the run itself stands on: whoever revokes the key in use is refused everything else. */
async function own(api: Api): Promise<Set<string | undefined>> {
  const key = (await find(api, 'api-keys')).find(({ accessKey }) => accessKey && api.token.includes(accessKey));
  const projects = (await find(api, 'projects')).filter(({ accountId }) => accountId === key?.accountId);
  return new Set([key?.id, key?.userId, key?.accountId, ...projects.map(({ id }) => id)]);
}

const quoted = (value: unknown): string => JSON.stringify(value);

export async function configurationFor(api: Api, simulatorUrl: string): Promise<string> {
  const document = await api.call<Document>('GET', '/v1/openapi.json');
  const words: Record<string, unknown[]> = {
    cidr: ['10.200.0.0/24', '10.201.0.0/16', '192.168.7.0/28'],
    publicKey: ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9mrJJbQ0ZTl8oP1yF8hF3Lq5U5i1w8n0m8m7XcK1aF key'],
    address: [20, 21, 22, 23].map((n) => `${simulatorUrl.replace('http:', 'sim:')}/host-${n}`),
    sizeGib: [1, 2, 3],
    storageClass: ['stock-1'],
  };
  const dictionaries = new Map<string, unknown[]>(Object.entries(words));
  const untouched = await own(api);
  for (const { name, plural } of allKinds) {
    const ids = (await find(api, plural)).map(({ id }) => id).filter((id) => !untouched.has(id));
    if (ids.length > 0) dictionaries.set(name, ids);
  }
  const lines = ['request-timeout = 70', ''];
  for (const [name, values] of dictionaries)
    lines.push(`[dictionaries.${quoted(name)}]`, `values = ${quoted(values)}`, '');
  const use = (where: string, dictionary: string): string =>
    `${quoted(where)} = { dictionary = ${quoted(dictionary)}, probability = 0.8 }`;
  for (const [path, operations] of Object.entries(document.paths))
    for (const { operationId, requestBody } of Object.values(operations)) {
      if (!operationId) continue;
      const kind = allKinds.find(({ plural }) => path.startsWith(`/v1/${plural}/{id}`))?.name ?? '';
      const body = Object.values(requestBody?.content ?? {})[0]?.schema ?? {};
      const uses = new Map(
        [...bound(document, body, 'body', '', Object.keys(words))].map(([where = '', name = '']) => [where, name]),
      );
      if (kind) uses.set('path.id', kind);
      const parameters = [...uses]
        .filter(([, name]) => dictionaries.has(name))
        .map(([where, name]) => use(where, name));
      // A serial console that is followed has no end.
      if (operationId === 'serialLogOfInstance') parameters.push('"query.follow" = "false"');
      if (parameters.length === 0 && operationId !== 'listEvents') continue;
      lines.push('[[operations]]', `include-operation-id = ${quoted(operationId)}`);
      // Nor has a stream of events: it is read for so long, or for one event.
      if (operationId === 'listEvents') lines.push('request-timeout = 3', 'max-stream-events = 1');
      lines.push('', '[operations.parameters]', ...parameters, '');
    }
  return lines.join('\n');
}
