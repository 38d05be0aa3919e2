/** The commands of one kind, made from what the document says can be done with it. */
import { Command } from 'commander';
import { type Operation, Refused } from '../client.ts';
import { columnsFor } from '../columns.ts';
import { kebab, type Parameter, type Resource, type Verb } from '../document.ts';
import { Usage } from '../exit-codes.ts';
import { hostStanding, lostOf } from '../hostStanding.ts';
import { idOf, isId, projectIdOf, quoted, resolveReferences } from '../names.ts';
import { printResult } from '../outcome.ts';
import { type Page, printList, printOne, valueAt } from '../output.ts';
import { watchOperation } from '../progress.ts';
import { kindBeside, readable } from '../readable.ts';
import { type Session, send } from '../session.ts';
import { bodyFromFile, type Property, propertiesOf, setAt } from '../values.ts';
import {
  addConnectionOptions,
  addOutputOptions,
  addProperty,
  addWaitOptions,
  columnsOf,
  flagOf,
  formatOf,
  type Options,
  propertyOfParameter,
  textOption,
  timeoutOf,
} from './options.ts';
import { printPlan } from './plan.ts';

/** Said by options of their own. */
const spoken: readonly string[] = ['dryRun', 'count', 'pageToken', 'follow', 'waitSeconds'];

/** An option that becomes a property of the body or a parameter of the query. */
interface Bound {
  key: string;
  property: Property;
}

const bind = (command: Command, session: Session, { kind }: Resource, properties: readonly Property[]): Bound[] =>
  properties.map((property) => ({ property, key: addProperty(command, session, kind, property) }));

const queryParameters = (verb: Verb): Parameter[] =>
  verb.parameters.filter((parameter) => parameter.in === 'query' && !spoken.includes(parameter.name));

const takes = (verb: Verb, name: string): boolean => verb.parameters.some((parameter) => parameter.name === name);

const queryOf = (bound: readonly Bound[], options: Options): Record<string, unknown> =>
  Object.fromEntries(
    bound.flatMap(({ key, property }) => (options[key] === undefined ? [] : [[property.path[0], options[key]]])),
  );

/** `belay <plural>` with a command for each verb. */
export function resourceCommand(session: Session, resource: Resource): Command {
  const command = new Command(resource.plural).description(resource.summary);
  for (const verb of resource.verbs) command.addCommand(verbCommand(session, resource, verb));
  return command;
}

export function verbCommand(session: Session, resource: Resource, verb: Verb): Command {
  const command = new Command(verb.name).description(verb.summary);
  if (verb.onResource) command.argument('<id|name>', `The ${kebab(resource.kind).replaceAll('-', ' ')}, by id or name`);
  if (verb.method === 'get')
    return verb.onResource
      ? readCommand(command, session, resource, verb)
      : listCommand(command, session, resource, verb);
  return changeCommand(command, session, resource, verb);
}

function listCommand(command: Command, session: Session, resource: Resource, verb: Verb): Command {
  const query = bind(command, session, resource, queryParameters(verb).map(propertyOfParameter));
  command
    .option('--page-token <token>', 'Go on behind a page; its end told the token')
    .option('--all', 'All pages')
    .option('--count', 'Also count all that match');
  if (resource.properties.projectId) command.option('--all-projects', 'Of all projects, not only of the chosen one');
  addConnectionOptions(addOutputOptions(command));
  return command.action(async (options: Options) => {
    const format = formatOf(options);
    const chosen = columnsOf(options) ?? fieldsOf(options);
    const columns = chosen ?? columnsFor(resource);
    const parameters = queryOf(query, options);
    const filter = await scopedFilter(session, resource, options);
    if (filter) parameters.filter = filter;
    // Nothing is asked for that will not be shown.
    if (parameters.fields === undefined && (format === 'table' || format === 'id'))
      parameters.fields = format === 'id' ? 'id' : maskOf(resource, chosen ?? withKinds(resource, columns));
    const page = await pagesOf(session, verb.path, parameters, options);
    const shown = format === 'table' && !chosen ? await readable(session, resource, page.items, columns) : null;
    await printList(session.terminal, shown ? { ...page, items: shown.rows } : page, {
      format,
      columns: shown?.columns ?? columns,
    });
    tellRest(session, resource, page);
  });
}

/** The columns, and of those that hold ids of any kind the kind beside them. */
const withKinds = ({ properties }: Resource, columns: readonly string[]): string[] => [
  ...new Set(columns.flatMap((column) => (properties[kindBeside(column)] ? [column, kindBeside(column)] : [column]))),
];

const fieldsOf = (options: Options): string[] | null =>
  textOption(options, 'fields')
    ?.split(',')
    .map((name) => name.trim())
    .filter(Boolean) ?? null;

/** Names of the fields that columns stand in; `labels.env` stands in `labels`. */
function maskOf(resource: Resource, columns: readonly string[]): string {
  const names = columns.map((column) => column.split('.')[0] ?? column);
  const unknown = names.filter((name) => !resource.properties[name]);
  if (unknown.length > 0)
    throw new Usage(
      `there is no column ${unknown.join(', ')}; there are ${Object.keys(resource.properties).join(', ')}`,
    );
  return [...new Set(names)].join(',');
}

/** With a project chosen, lists tell what is in it, and of kinds that are shared, what is public. */
async function scopedFilter(session: Session, resource: Resource, options: Options): Promise<string | undefined> {
  const filter = textOption(options, 'filter');
  const project = resource.properties.projectId && !options.allProjects ? await projectIdOf(session) : null;
  if (!project) return filter;
  const own = `projectId = ${quoted(project)}`;
  const scope = resource.properties.visibility ? `(${own} OR visibility = "public")` : own;
  return filter?.trim() ? `${scope} AND (${filter})` : scope;
}

const largestPage = 500;
/** So many operations of one host are told of. */
const openShown = 10;

type Row = Record<string, unknown>;

async function pagesOf(
  session: Session,
  path: string,
  query: Record<string, unknown>,
  options: Options,
): Promise<Page> {
  let token = textOption(options, 'pageToken') ?? null;
  const whole: Page = { items: [], nextPageToken: null };
  do {
    const first = whole.items.length === 0;
    const { data } = await send(session, {
      method: 'get',
      path,
      query: {
        ...(options.all ? { pageSize: largestPage } : {}),
        ...query,
        ...(options.count && first ? { count: 'exact' } : {}),
        ...(token ? { pageToken: token } : {}),
      },
    });
    const page = data as Page;
    whole.items.push(...page.items);
    if (first && page.count !== undefined) whole.count = page.count;
    token = page.nextPageToken;
  } while (options.all && token);
  whole.nextPageToken = token;
  return whole;
}

function tellRest(session: Session, resource: Resource, { items, nextPageToken, count }: Page): void {
  const total = count === undefined ? '' : ` of ${count}`;
  if (nextPageToken)
    session.tell(`${items.length}${total} ${resource.plural}; more with --all, or --page-token ${nextPageToken}`);
  else if (count !== undefined) session.tell(`${items.length}${total} ${resource.plural}`);
}

function readCommand(command: Command, session: Session, resource: Resource, verb: Verb): Command {
  const query = bind(command, session, resource, queryParameters(verb).map(propertyOfParameter));
  addConnectionOptions(addOutputOptions(command));
  return command.action(async (name: string, options: Options) => {
    const id = await idOf(session, resource, name, options.showDeleted === true);
    const { data } = await send(session, { method: 'get', path: verb.path, id, query: queryOf(query, options) });
    const shown = { format: formatOf(options), columns: columnsOf(options) };
    const isWhole = shown.format === 'table' && shown.columns === null && options.fields === undefined;
    if (resource.kind === 'operation' && verb.name === 'get' && isWhole)
      return printOperation(session, data as Operation);
    await printOne(session.terminal, data, shown);
    if (resource.kind === 'host' && verb.name === 'get' && isWhole) await tellStanding(session, data as Row);
  });
}

/** Its result in words: a report is no line. */
async function printOperation(session: Session, operation: Operation): Promise<void> {
  const { result, ...rest } = operation;
  await printOne(session.terminal, rest, { format: 'table', columns: null });
  await printResult(session, operation);
}

/** Why a host is as it is, and what happens next. Whoever may not read operations, or instances, is told the rest. */
async function tellStanding(session: Session, host: Row): Promise<void> {
  if (host.deletedAt) return;
  const filter = `targetId = ${quoted(String(host.id))} AND endedAt = null`;
  const [open, lost] = await Promise.all([
    pageUnlessForbidden(session, '/v1/operations', { filter, orderBy: 'createdAt', pageSize: openShown }),
    host.state === 'fenced'
      ? pageUnlessForbidden(session, '/v1/instances', {
          filter: lostOf(host.id),
          fields: 'id',
          pageSize: 1,
          count: 'exact',
        })
      : null,
  ]);
  for (const line of hostStanding(host, open?.items ?? [], lost?.count ?? null)) session.tell(line);
}

async function pageUnlessForbidden(session: Session, path: string, query: Row): Promise<Page | null> {
  try {
    return (await send(session, { method: 'get', path, query })).data as Page;
  } catch (error) {
    if (error instanceof Refused && error.problem.code === 'FORBIDDEN') return null;
    throw error;
  }
}

/** What a command does beside its own call; an image's create uploads its bytes. */
export interface Continuation {
  /** Throws what would make it fail, before anything is sent. */
  check(options: Options): Promise<void>;
  /** After a change that is made at once: answers the operation it started, if any. */
  start?(answer: unknown, options: Options): Promise<Operation | null>;
  /** After an operation that was told of, and waited for if that was asked. */
  goOn?(operation: Operation, options: Options): Promise<void>;
}

function changeCommand(command: Command, session: Session, resource: Resource, verb: Verb): Command {
  return changeCommandWith(command, session, resource, verb, null);
}

/** As `changeCommand`, going on with what `then` starts once the change was made. */
export function changeCommandWith(
  command: Command,
  session: Session,
  resource: Resource,
  verb: Verb,
  then: Continuation | null,
): Command {
  const properties = verb.body ? propertiesOf(session.document, verb.body.schema) : [];
  const body = bind(command, session, resource, properties);
  if (properties.length > 0)
    command.option('--from-file <file>', 'Body as JSON; - for standard input. Options come on top of it');
  // What a create does not name is null already, but for the project, which is the chosen one then.
  const clearable = properties.filter(
    ({ nullable, flag }) => nullable && (verb.name === 'update' || (verb.name === 'create' && flag === 'project-id')),
  );
  if (clearable.length > 0)
    command.option('--clear <names>', `Set to null: ${clearable.map(({ flag }) => flag).join(', ')}`);
  const query = bind(command, session, resource, queryParameters(verb).map(propertyOfParameter));
  if (takes(verb, 'dryRun')) command.option('--dry-run', 'Show the plan and change nothing');
  if (takes(verb, 'Idempotency-Key'))
    command.option('--idempotency-key <key>', 'With the same key and body the first answer comes again, for 24 hours');
  if (takes(verb, 'Belay-Callback-Url'))
    command.option('--callback-url <url>', 'Where the operation is sent, signed, when it has ended');
  if (takes(verb, 'If-Match'))
    command.option('--if-revision <number>', 'Refuse when it was changed since this revision');
  if (takes(verb, 'Prefer') || then) addWaitOptions(command);
  addConnectionOptions(addOutputOptions(command));
  return command.action(async (...given: unknown[]) => {
    const options = given.at(-2) as Options;
    const name = verb.onResource ? String(given[0]) : null;
    const written = verb.body ? bodyOf(session, verb, body, options) : undefined;
    await then?.check(options);
    const id = name === null ? undefined : await idOf(session, resource, name);
    const resolved = written && ((await resolveReferences(session, resource, written)) as Record<string, unknown>);
    if (
      resolved &&
      verb.name === 'create' &&
      resolved.projectId === undefined &&
      verb.body?.schema.properties?.projectId
    ) {
      const project = await projectIdOf(session);
      if (project) resolved.projectId = project;
    }
    const { status, data } = await send(session, {
      method: verb.method,
      path: verb.path,
      ...(id ? { id } : {}),
      query: { ...queryOf(query, options), ...(options.dryRun ? { dryRun: true } : {}) },
      headers: headersOf(verb, options),
      ...(resolved && (Object.keys(resolved).length > 0 || verb.method === 'patch') ? { body: resolved } : {}),
    });
    await tellChange(
      session,
      resource,
      { status, data, name: name ?? '', type: typeOf(resource, verb) },
      options,
      then,
    );
  });
}

function headersOf(verb: Verb, options: Options): Record<string, string> {
  const key = textOption(options, 'idempotencyKey');
  const revision = textOption(options, 'ifRevision');
  if (revision !== undefined && !/^\d+$/.test(revision))
    throw new Usage(`--if-revision takes a number, found "${revision}"`);
  const callbackUrl = textOption(options, 'callbackUrl');
  return {
    ...(key ? { 'Idempotency-Key': key } : {}),
    ...(callbackUrl ? { 'Belay-Callback-Url': callbackUrl } : {}),
    ...(revision ? { 'If-Match': `"${revision}"` } : {}),
    ...(verb.body ? { 'Content-Type': verb.body.mediaType } : {}),
  };
}

/** The file, and on top of it the options: whole objects first, then what is set inside them. */
function bodyOf(session: Session, verb: Verb, bound: readonly Bound[], options: Options): Record<string, unknown> {
  const file = textOption(options, 'fromFile');
  const body = file ? bodyFromFile(file, session.readFiles) : {};
  for (const { key, property } of [...bound].sort((a, b) => a.property.path.length - b.property.path.length))
    if (options[key] !== undefined) setAt(body, property.path, options[key]);
  for (const flag of textOption(options, 'clear')?.split(',') ?? []) {
    const cleared = bound.find(({ property }) => property.flag === flag.trim() && property.nullable);
    if (!cleared) throw new Usage(`--clear ${flag}: there is no such field, or it can not be null`);
    setAt(body, cleared.property.path, null);
  }
  const missing = bound.filter(
    ({ property }) => property.required && valueAt(body, property.path[0] ?? '') === undefined,
  );
  if (missing.length > 0)
    throw new Usage(
      `${missing.map(({ property }) => `--${flagOf(property.flag)}`).join(', ')} ${missing.length > 1 ? 'are' : 'is'} needed`,
    );
  if (verb.method === 'patch' && Object.keys(body).length === 0)
    throw new Usage('nothing to change: name what should be otherwise');
  return body;
}

interface Changed {
  status: number;
  data: unknown;
  name: string;
  /** Of the operation that it is, or would be. */
  type: string;
}

/** As in `cluster.rollingMaintenance`. */
const typeOf = ({ kind }: Resource, { path, name }: Verb): string =>
  `${kind}.${/\/actions\/(\w+)$/.exec(path)?.[1] ?? name}`;

async function tellChange(
  session: Session,
  resource: Resource,
  { status, data, name, type }: Changed,
  options: Options,
  then: Continuation | null,
): Promise<void> {
  const { terminal } = session;
  const shown = { format: formatOf(options), columns: columnsOf(options) };
  if (options.dryRun) return printPlan(session, type, data, shown.format);
  if (status === 204) return session.tell(`${kebab(resource.kind).replaceAll('-', ' ')} ${name} is deleted`);
  const operation = status === 202 ? (data as Operation) : then?.start ? await then.start(data, options) : null;
  if (!operation) return printOne(terminal, data, shown);
  await tellOperation(session, operation, options);
  await then?.goOn?.(operation, options);
}

const operationColumns = ['id', 'type', 'state', 'targetKind', 'targetId'];

/** Prints an accepted operation, or with `--wait` what it made of the resource, and its result. */
export async function tellOperation(session: Session, operation: Operation, options: Options): Promise<void> {
  const shown = { format: formatOf(options), columns: columnsOf(options) };
  if (!options.wait) {
    await printOne(session.terminal, operation, { ...shown, columns: shown.columns ?? operationColumns });
    if (shown.format === 'table') session.tell(`follow it with: belay operations watch ${operation.id}`);
    return;
  }
  const ended = await watchOperation(session, operation.id, timeoutOf(options));
  const about = await resourceOf(session, ended);
  if (about) await printOne(session.terminal, about, shown);
  if (shown.format === 'table' && !shown.columns) await printResult(session, ended, about);
}

/** What an operation was about, as it is now; null when it is no more, as when its end was what was waited for. */
async function resourceOf(session: Session, { targetKind, targetId }: Operation): Promise<unknown> {
  const resource = session.resources.find(({ kind }) => kind === targetKind);
  if (!resource || !targetId || !isId(targetId)) return null;
  try {
    return (await send(session, { method: 'get', path: `/v1/${resource.plural}/{id}`, id: targetId })).data;
  } catch (error) {
    if (error instanceof Refused && error.problem.code === 'NOT_FOUND') return null;
    throw error;
  }
}
