/** Names instead of ids, wherever an id is expected. */
import { actedOn, type Resource, referredKind } from './document.ts';
import { Missing, Usage } from './exit-codes.ts';
import { cellOf } from './output.ts';
import { resourceNamed, type Session, send } from './session.ts';

export const isId = (text: string): boolean => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text);

/** A text as the filter language quotes it; an asterisk stands for itself. */
export const quoted = (text: string): string => `"${text.replace(/["\\*]/g, '\\$&')}"`;

/** As in `storage cluster`. */
export const spoken = (kind: string): string => kind.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);

interface Found {
  id: string;
  name?: string;
  state?: string;
  projectId?: string | null;
  createdAt?: string;
}

const memo = new WeakMap<Session, Map<string, string>>();

/**
 * The id of what a person named by id or by name. Of several with that name, the only one in the chosen project is meant.
 * Throws Missing, or Usage that lists the candidates.
 */
export async function idOf(session: Session, resource: Resource, text: string, showDeleted = false): Promise<string> {
  if (isId(text)) return text.toLowerCase();
  const known = memo.get(session) ?? new Map<string, string>();
  memo.set(session, known);
  const key = `${resource.kind} ${text}`;
  const id = known.get(key) ?? (await lookUp(session, resource, text, showDeleted));
  known.set(key, id);
  return id;
}

async function lookUp(session: Session, resource: Resource, text: string, showDeleted: boolean): Promise<string> {
  const kind = spoken(resource.kind);
  if (!resource.properties.name) throw new Usage(`"${text}" is no id, and a ${kind} has no name to find it by`);
  if (text === '') throw new Usage(`expected the id or name of a ${kind}, found nothing`);
  const told = ['id', 'name', 'state', 'projectId', 'createdAt'].filter((name) => resource.properties[name]);
  const { data } = await send(session, {
    method: 'get',
    path: `/v1/${resource.plural}`,
    query: {
      filter: `name = ${quoted(text)}`,
      pageSize: 20,
      fields: told.join(','),
      ...(showDeleted ? { showDeleted: true } : {}),
    },
  });
  const { items } = data as { items: Found[] };
  const [first] = items;
  if (!first) throw new Missing(`there is no ${kind} named "${text}", or you may not see it`);
  if (items.length === 1) return first.id;
  if (items.some(({ projectId }) => projectId)) {
    const project = await projectIdOf(session);
    const [own, ...others] = items.filter(({ projectId }) => projectId === project);
    if (project && own && others.length === 0) return own.id;
  }
  const list = items.map(
    (item) =>
      `  ${[item.id, item.state, item.projectId ? `project ${item.projectId}` : undefined, item.createdAt ? cellOf(item.createdAt) : undefined].filter(Boolean).join('  ')}`,
  );
  const count = items.length === 20 ? '20 or more' : String(items.length);
  throw new Usage(`${count} ${kind}s are named "${text}"; give the id of one of them:\n${list.join('\n')}`);
}

/** The chosen project; null when none is. */
export async function projectIdOf(session: Session): Promise<string | null> {
  const { project } = session.configuration();
  if (!project) return null;
  if (isId(project)) return project.toLowerCase();
  const key = `project ${project}`;
  const known = memo.get(session)?.get(key);
  return known ?? (await idOf(session, resourceNamed(session, 'project'), project));
}

async function idsOf(session: Session, kind: Resource, value: string | unknown[]): Promise<unknown> {
  if (typeof value === 'string') return idOf(session, kind, value);
  const ids: unknown[] = [];
  for (const item of value) ids.push(typeof item === 'string' ? await idOf(session, kind, item) : item);
  return ids;
}

/**
 * Puts ids in place of the names in a body, however deep: in each property whose name says what it refers to, and in the `ids` of `targets`, which are
 * of the kind that the action beside them acts on.
 */
export async function resolveReferences(
  session: Session,
  own: Resource,
  value: unknown,
  ofIds: Resource | null = null,
): Promise<unknown> {
  if (Array.isArray(value)) {
    const items: unknown[] = [];
    for (const item of value) items.push(await resolveReferences(session, own, item));
    return items;
  }
  if (value === null || typeof value !== 'object') return value;
  const siblings = value as Record<string, unknown>;
  const resolved: Record<string, unknown> = {};
  for (const [name, inner] of Object.entries(siblings)) {
    const kind = name === 'ids' ? ofIds : referredKind(name, session.resources, own.kind, siblings);
    const targets = name === 'targets' ? actedOn(session.document, session.resources, siblings.action) : null;
    resolved[name] =
      kind && (typeof inner === 'string' || Array.isArray(inner))
        ? await idsOf(session, kind, inner)
        : await resolveReferences(session, own, inner, targets);
  }
  return resolved;
}
