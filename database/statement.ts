/**
 * Statements that the compiler checks: built with Kysely over the tables of the model, compiled once, and run as named prepared statements.
 *
 *     const open = statement((p: Values<{ zoneId: string }>) =>
 *       from.selectFrom('hostCapacity').select(['hostId', 'vcpus']).where('zoneId', '=', p.zoneId).where('open', '=', true),
 *     );
 *     const hosts = await open(tx, { zoneId });
 *
 * What differs from call to call is `p.…`, and becomes a parameter. All else stands in the text: there the planner sees it, and finds indexes
 * of some rows only. Lists go in as arrays (`isAmong`), so that their length is no part of the text.
 *
 * Whatever Kysely can not say well is `written`, in this folder only. Both are known to `allStatements`: a test prepares each on a migrated database.
 */
import {
  type Compilable,
  type DeleteResult,
  DummyDriver,
  type Expression,
  type InsertResult,
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type RawBuilder,
  type SelectType,
  type SqlBool,
  sql,
  type UpdateResult,
} from 'kysely';
import type { Tables } from '../generated/tables.ts';
import type { Kind } from '../model/kind.ts';
import { allKinds } from '../model/kinds.ts';
import { type Queryable, statementName } from './database.ts';

/** A value that is known when the statement runs. */
class Given {
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }
}

/** Numbers what is given, each name once; all other values stand in the text. */
class Compiler extends PostgresQueryCompiler {
  #places = new Map<string, number>();

  override compileQuery(...args: Parameters<PostgresQueryCompiler['compileQuery']>) {
    this.#places = new Map();
    return super.compileQuery(...args);
  }

  protected override appendValue(value: unknown): void {
    const known = value instanceof Given ? this.#places.get(value.name) : undefined;
    if (!(value instanceof Given)) this.appendImmediateValue(value);
    else if (known !== undefined) this.append(`$${known}`);
    else {
      this.#places.set(value.name, this.#places.size + 1);
      super.appendValue(value);
    }
  }
}

/** Where every statement begins. It has no connection: what is built is run by `statement`. */
export const from = new Kysely<Tables>({
  dialect: {
    createAdapter: () => new PostgresAdapter(),
    createDriver: () => new DummyDriver(),
    createIntrospector: (db) => new PostgresIntrospector(db),
    createQueryCompiler: () => new Compiler(),
  },
});

/** What a column holds, without null. */
export type ValueOf<Table extends keyof Tables, Column extends keyof Tables[Table]> = NonNullable<
  SelectType<Tables[Table][Column]>
>;

/** The values that a statement is run with, as expressions to build it from. */
export type Values<Input> = { readonly [Name in keyof Input & string]-?: RawBuilder<Input[Name]> };

// Every statement asks for its values by name; which ones there are, it says itself by asking.
const values = new Proxy({}, { get: (_, name) => sql`${new Given(String(name))}` });

type Answered<O> = O extends InsertResult | UpdateResult | DeleteResult ? never : O;

/** A statement: runs on a pool, a connection or in a transaction, and answers its rows. */
export type Statement<Input, Row> = (
  on: Queryable,
  ...input: Record<never, never> extends Input ? [input?: Input] : [input: Input]
) => Promise<Row[]>;

interface Text {
  name: string;
  text: string;
  /** Names of what is given, in the order of the parameters. */
  given: readonly string[];
}

const known: (() => Text[])[] = [];

/** The texts of all statements of the files that are loaded, those of every kind for those that differ by kind. */
export const allStatements = (): Text[] => known.flatMap((texts) => texts());

/** Tells the texts of statements that are made at run time: of every shape that can be told beforehand. */
export const prepared = (texts: () => string[]): void => {
  known.push(() => texts().map((text) => ({ name: statementName(text), text, given: [] })));
};

function compiled<Output>(build: (p: never) => Compilable<Output>): Text {
  const { sql: text, parameters } = build(values as never).compile();
  return { name: statementName(text), text, given: parameters.map((parameter) => (parameter as Given).name) };
}

async function execute<Row>(
  on: Queryable,
  { name, text, given }: Text,
  input: Record<string, unknown> = {},
): Promise<Row[]> {
  const result = await on.query({ name, text, values: given.map((one) => input[one]) });
  return result.rows as Row[];
}

/** A statement of the builder, compiled when it is first run. */
export function statement<Output, Input = Record<never, never>>(
  build: (p: Values<Input>) => Compilable<Output>,
): Statement<Input, Answered<Output>> {
  let text: Text | undefined;
  const compile = (): Text => {
    text ??= compiled(build as (p: never) => Compilable<Output>);
    return text;
  };
  known.push(() => [compile()]);
  return (on, ...[input]) => execute(on, compile(), input as Record<string, unknown> | undefined);
}

/** Columns that the tables of kinds have in common, for statements that are the same for several kinds. Not every kind has all of them. */
export interface AnyKindTable {
  id: string;
  projectId: string | null;
  name: string;
  state: string;
  fault: unknown;
  currentOperationId: string | null;
  createdAt: Date;
  updatedAt: Date;
  deletedAt: Date | null;
  revision: number;
}

/** The table of a kind, under the name `t`. */
export const tableOf = (kind: Kind) => sql<AnyKindTable>`${sql.table(kind.name)}`.as<'t'>('t');

/** A statement that there is once for each kind: of all of them, or of those that it is `of` for. */
export function statementOfKind<Output, Input = Record<never, never>>(
  build: (kind: Kind, p: Values<Input>) => Compilable<Output>,
  of: (kind: Kind) => boolean = () => true,
): (kind: Kind) => Statement<Input, Answered<Output>> {
  const texts = new Map<string, Text>();
  const compile = (kind: Kind): Text => {
    let text = texts.get(kind.name);
    if (!text) {
      text = compiled((p: never) => build(kind, p));
      texts.set(kind.name, text);
    }
    return text;
  };
  known.push(() => allKinds.filter(of).map(compile));
  return (kind) =>
    (on, ...[input]) =>
      execute(on, compile(kind), input as Record<string, unknown> | undefined);
}

/** Words of the model, as they stand in a list of SQL. */
export const literals = (words: readonly string[]): string => words.map((word) => `'${word}'`).join(', ');

/**
 * A statement in SQL, for what the builder can not say well. `$name` is the value of that name. What its rows are, is said and not checked: read
 * it twice. In `database/` only.
 */
export function written<Row, Input = Record<never, never>>(text: string): Statement<Input, Row> & { text: string } {
  const given: string[] = [];
  const numbered = text.replace(/\$([a-z]\w*)/gi, (_, name: string) => {
    if (!given.includes(name)) given.push(name);
    return `$${given.indexOf(name) + 1}`;
  });
  const made = { name: statementName(numbered), text: numbered, given };
  known.push(() => [made]);
  const written: Statement<Input, Row> = (on, ...[input]) =>
    execute(on, made, input as Record<string, unknown> | undefined);
  return Object.assign(written, { text: numbered });
}

/** One in SQL for each of these kinds. */
export function writtenOfKind<Row, Input = Record<never, never>>(
  kinds: readonly Kind[],
  text: (kind: Kind) => string,
): (kind: Kind) => Statement<Input, Row> {
  const statements = new Map(kinds.map((kind) => [kind.name, written<Row, Input>(text(kind))]));
  return ({ name }) => {
    const statement = statements.get(name);
    if (!statement) throw new Error(`there is no such statement for ${name}`);
    return statement;
  };
}

/** Now, as the database's clock has it when the transaction begins. */
export const now = sql<Date>`now()`;

/** So many seconds from now. */
export const inSeconds = (count: Expression<number> | number) => sql<Date>`now() + make_interval(secs => ${count})`;

/** So many seconds ago. */
export const secondsAgo = (count: Expression<number> | number) => sql<Date>`now() - make_interval(secs => ${count})`;

/** Whether a value is among those of a list that is given as one array. */
export const isAmong = <T>(
  value: Expression<T>,
  list: Expression<readonly (NonNullable<T> extends string ? string : NonNullable<T>)[]>,
) => sql<SqlBool>`${value} = ANY(${list})`;

/** Whether the database answers. */
export const isThere = written<unknown>('SELECT 1');
