/** A change on its way: what was asked, what a command's hook reads and fills, and what comes of it. */

import type { Rows, Transaction } from '../database/database.ts';
import type { Placement } from '../database/placement.ts';
import type { OperationType, Told } from '../model/actions.ts';
import type { Kind, LockMode } from '../model/kind.ts';
import type { StartOperation } from '../model/platform/operation.ts';
import type { Problem, ProblemCode } from '../runtime/problem.ts';
import type { Caller, Place } from './caller.ts';

export type Row = Record<string, unknown> & { id: string; revision: number };

/** Rows by `<kind>/<id>`. */
export type Loaded = ReadonlyMap<string, Row>;

/** A resource that the request names. */
export interface Reference {
  kind: string;
  id: string;
  /** Where in the body it stands, for the violation when it is not there. */
  field: string;
  /** The permission that this use of it needs, as its verb; `use` unless said. */
  use?: string;
}

/** Rows that the holds of an action follow from, beside those that the request names: one by its id, or `by` a field all that refer to it. */
export type Related = { kind: string; id: string; by?: string };

/** Something that must be true of a held resource, when it is accepted and again when its turn comes. */
export interface Condition {
  field: string;
  is: string | boolean | null;
  code: ProblemCode;
  message: string;
}

/** What an action needs of a resource while it runs: S, that it stays; X, that nobody else changes it; D, that nobody else uses it. */
export interface Hold {
  kind: string;
  id: string;
  mode: LockMode;
  /** States it may be in; empty: any. */
  from?: readonly string[];
  conditions?: readonly Condition[];
  via?: string | null;
  to?: string | null;
  /** Made by this operation: if it fails, a tombstone is all that stays. */
  fresh?: boolean;
  /** The operation above this one that holds it, or the one that gives way to it: this one works inside that hold, and hands it back. */
  within?: string;
  /** The one that holds it has brought it into the state that it is in, and gives way: neither that state nor its fault keeps this one out. */
  overtakes?: boolean;
}

/** What the holds of an action are told from; nothing else, so that they are known before anything is locked. */
export interface Scene {
  kind: Kind;
  input: Record<string, unknown>;
  /** The resource acted on; of a create, the row about to be inserted. */
  row: Row;
  loaded: Loaded;
}

/** What a command's hook reads and fills while a change is accepted. */
export interface Accepting {
  tx: Transaction;
  caller: Caller;
  kind: Kind;
  verb: string;
  input: Record<string, unknown>;
  /** The resource acted on; of a create, the row about to be inserted. */
  row: Row;
  project: Row | null;
  /** Living rows of what the request names and of what is related, as they are under the locks. */
  references: Loaded;
  operationId: string | null;
  /** The operation of which this is a part. */
  parentOperationId: string | null;
  /** Further rows to insert, by table. */
  rows: Rows;
  /** Further resources that the operation makes. What is there already is held by `Hook.holds` alone. */
  makes: { kind: string; id: string; via: string; to: string }[];
  /** What the workflow is told beside the target's id. No secret. */
  workflowInput: Record<string, unknown>;
  /** State after success, where it is not the action's own. */
  to?: string;
  /** Where it would go if its turn were now, for the plan of a dry run. */
  placement: Placement | null;
  /** Refuses in a locked account, or below a disabled domain. Asked before anything is added to what the account uses; looked up once. */
  refuseLocked(): Promise<void>;
  /** Further members of the answer of a record-only change, such as a secret shown once. */
  answer: Record<string, unknown>;
  warnings: string[];
  /** It is only told what would be. */
  dryRun: boolean;
  /** What would be done in all, where the steps do not say it: told by a dry run. */
  plan: unknown;
}

/** What the action's model says that its workflow is told beside the input. */
export function tell<T extends OperationType>(accepting: Accepting, _type: T, told: Told<T>): void {
  Object.assign(accepting.workflowInput, told);
}

/** Of what begins inside another operation: which, and as what of it. A repeated try with the same key meets its first child. */
export interface Parent {
  operationId: string;
  key: string;
  /** Why whoever asked for the parent begins nothing any more. What has been begun before is answered all the same. */
  refused?: Problem;
}

export interface Change {
  kind: Kind;
  verb: string;
  targetId: string | null;
  body: unknown;
  /** As it was sent, where the body says more by now: an Idempotency-Key is of this. */
  asked?: unknown;
  caller: Caller;
  requestId: string;
  sourceAddress: string;
  dryRun: boolean;
  idempotencyKey: string | null;
  /** Asked in the transaction that keeps the answer to a new key; throws when no more are kept for the account. */
  takeKey?: (tx: Transaction, accountId: string) => Promise<void>;
  onBusy: 'queue' | 'fail';
  ifMatch: number | null;
  /** Where its operation's end is to be told. */
  callbackUrl?: string | null;
  /** What the server itself found out and the workflow is told, such as the facts of an upload. */
  found?: Record<string, unknown>;
  /** Columns of a new row that its maker knows, and nobody else may say. */
  marks?: Record<string, unknown>;
  /** Who asks has seen to it that the caller may: a plan that only tells, or a part of what the caller may do as a whole. */
  permitted?: boolean;
  /** What must be true of the target beside what its action asks. */
  conditions?: Condition[];
  /** Asked under the locks; throws what else refuses it. */
  refuse?: (tx: Transaction) => Promise<void>;
  /** The dispatcher starts it, not the process that accepts it. */
  leftToDispatcher?: boolean;
  parent?: Parent;
}

export interface Outcome {
  status: number;
  /** JSON text of the answer. */
  body: string;
  revision?: number;
  /** Operation to start now: it is first in line on everything it touches. */
  start?: StartOperation;
  /** Rights may have changed. */
  rights?: boolean;
}

/** What a single action adds to the general way of a change, in the order in which it is asked. */
export interface Hook {
  /** Ids inside the body that the fields alone do not show. */
  references?(input: Record<string, unknown>): Reference[];
  /** Further rows that its holds follow from, told from what the request names. Pure, as `holds`. */
  related?(scene: Scene): Related[];
  /** What it holds beside its target, and beside S on what the request names. Pure: it is asked before the locks and again under them. */
  holds?(scene: Scene): Hold[];
  /**
   * What it holds beside all that, where that takes more than a look at rows: asked before the locks and again under them. What it holds then and
   * did not before makes the change start over.
   */
  foresee?(tx: Transaction, caller: Caller, scene: Scene): Promise<Hold[]>;
  /** The operation that holds its target and gives way to it; asked under the locks. */
  givesWay?(tx: Transaction, target: { id: string; input: Record<string, unknown> }): Promise<string | null>;
  /** What must be true of its target beside the states of the model. Pure, as `holds`. */
  conditions?(scene: Scene): Condition[];
  /** Where the permission must be held, when it is not where the row lives. */
  permittedAt?(row: Row, loaded: Loaded): Place;
  /** The resource whose place counts instead; null for the platform itself. */
  livesIn?(row: Row): { kind: string; id: string } | null;
  /** Whether it is the caller's own, for which holding the permission anywhere is enough. */
  isOwn?(row: Row, caller: Caller): boolean;
  /** Refuses for good what may never be done to this one, whoever asks. Of a delete it is asked too when that goes along with another. Pure. */
  refuse?(row: Row): void;
  /** Of a delete: what hangs on the resource does not hold it up, because the operation itself frees it. */
  dependentsGo?(input: Record<string, unknown>): boolean;
  /** Whether it is for this caller and nobody else to do, wherever the permission is held. */
  mine?(row: Row, caller: Caller): boolean;
  /** Of an action on a collection, which has no target: the project that its operation lies in. */
  project?(tx: Transaction, caller: Caller, input: Record<string, unknown>): Promise<string | null>;
  accept?(accepting: Accepting): Promise<void> | void;
}

export type Hooks = Record<string, Hook>;
