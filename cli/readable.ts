/** Lists for people: names where records hold ids, and of instances their addresses. */
import { Refused } from './client.ts';
import { type Resource, referredKind } from './document.ts';
import { valueAt } from './output.ts';
import { resourceNamed, type Session, send } from './session.ts';

type Row = Record<string, unknown>;

/** As many ids as fit into one filter. */
const idsAtOnce = 80;
const pageSize = 500;

/** `source.imageId` is shown as `image`. */
const titleOf = (column: string): string => (column.split('.').at(-1) ?? column).replace(/Id$/, '');

/** Beside `targetId` stands `targetKind`, which says whose id it is. */
export const kindBeside = (column: string): string => column.replace(/Id$/, 'Kind');

const refers = (session: Session, { kind }: Resource, column: string, row: Row): Resource | null =>
  referredKind(column.split('.').at(-1) ?? column, session.resources, kind, row);

/** What a caller may not list, it sees as ids. */
async function listOrNothing(session: Session, plural: string, query: Row): Promise<Row[]> {
  try {
    const { data } = await send(session, { method: 'get', path: `/v1/${plural}`, query: { pageSize, ...query } });
    return (data as { items: Row[] }).items;
  } catch (error) {
    if (error instanceof Refused) return [];
    throw error;
  }
}

async function whereAny(
  session: Session,
  plural: string,
  field: string,
  ids: string[],
  fields: string,
): Promise<Row[]> {
  const pages: Promise<Row[]>[] = [];
  for (let at = 0; at < ids.length; at += idsAtOnce) {
    const filter = ids.slice(at, at + idsAtOnce).map((id) => `${field} = "${id}"`);
    pages.push(listOrNothing(session, plural, { filter: filter.join(' OR '), fields }));
  }
  return (await Promise.all(pages)).flat();
}

/** Names by id; the ids are given by the plural of their kind. */
export async function namesOfIds(
  session: Session,
  ids: ReadonlyMap<string, ReadonlySet<string>>,
): Promise<Map<string, string>> {
  const found = await Promise.all(
    [...ids].map(([plural, some]) => whereAny(session, plural, 'id', [...some], 'id,name')),
  );
  return new Map(found.flat().map(({ id, name }) => [String(id), String(name)]));
}

/** Names by id, of everything that these columns refer to. */
async function namesOf(
  session: Session,
  resource: Resource,
  rows: Row[],
  columns: string[],
): Promise<Map<string, string>> {
  const ids = new Map<string, Set<string>>();
  for (const row of rows)
    for (const column of columns) {
      const value = valueAt(row, column);
      const kind = refers(session, resource, column, row);
      if (typeof value !== 'string' || !kind?.properties.name) continue;
      ids.set(kind.plural, (ids.get(kind.plural) ?? new Set()).add(value));
    }
  return namesOfIds(session, ids);
}

async function addressesOf(session: Session, rows: Row[]): Promise<Map<string, string>> {
  const { plural } = resourceNamed(session, 'networkInterface');
  const ids = rows.map(({ id }) => String(id));
  const found = await whereAny(session, plural, 'instanceId', ids, 'instanceId,address');
  const addresses = new Map<string, string>();
  for (const { instanceId, address } of found)
    if (address)
      addresses.set(String(instanceId), [addresses.get(String(instanceId)), address].filter(Boolean).join(','));
  return addresses;
}

/** The rows of a list and their columns, as a person wants to read them. */
export async function readable(
  session: Session,
  resource: Resource,
  rows: Row[],
  columns: string[],
): Promise<{ rows: Row[]; columns: string[] }> {
  const withAddresses = resource.kind === 'instance' && rows.length > 0;
  const [names, addresses] = await Promise.all([
    namesOf(session, resource, rows, columns),
    withAddresses ? addressesOf(session, rows) : new Map<string, string>(),
  ]);
  const isReference = (column: string): boolean =>
    column.endsWith('Id') &&
    (resource.properties[kindBeside(column)] !== undefined || refers(session, resource, column, {}) !== null);
  const shown = columns.map((column) => ({ column, title: isReference(column) ? titleOf(column) : column }));
  const titles = shown.map(({ title }) => title);
  if (resource.kind === 'instance') titles.splice(titles.indexOf('state') + 1, 0, 'addresses');
  return {
    columns: titles,
    rows: rows.map((row) => ({
      ...Object.fromEntries(
        shown.map(({ column, title }) => {
          const value = valueAt(row, column);
          return [title, title === column ? value : (names.get(String(value)) ?? value)];
        }),
      ),
      ...(resource.kind === 'instance' ? { addresses: addresses.get(String(row.id)) } : {}),
    })),
  };
}
