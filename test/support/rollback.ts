/**
 * The proof of rollback (X1): a workflow joins with one line, and each of its steps is made to fail before it acted, to fail after it
 * acted, to run twice, to have its undo run twice, and to lose its worker. Afterwards the world is as it was before, or as after a success.
 * What does not end an operation is proven of all its steps by one operation.
 */
import pg from 'pg';
import { steps as described } from '../../generated/steps.ts';
import type { Api, OperationView } from '../../lab/api.ts';
import { inBatches } from '../../lab/provision.ts';
import { nameOf } from '../../model/kind.ts';
import { actionNamed } from '../../model/kinds.ts';
import type { Fault, FaultRule } from '../../workers/faults.ts';
import { setSetting } from './settings.ts';

export interface Case {
  step: string;
  fault: Fault;
  /** What must come of it. */
  expect: 'rolledBack' | 'succeeded';
}

/** What asks for the action, and what it acts on. */
export interface Request {
  targetId: string;
  method: string;
  path: string;
  body?: unknown;
  ask?: () => Promise<OperationView>;
}

export interface Subject {
  /** `instance.migrate`. */
  type: string;
  /** What is special about it, where one action has several ways. */
  variant?: string;
  /** Makes what the action acts on; answers the request, with the id of its target known beforehand. */
  prepare(name: string): Promise<Request>;
  /** Asked by the operator rather than the tenant. */
  operator?: boolean;
  /** Brings a target on which the action has succeeded back to where it was prepared. Without it, each success has a target of its own. */
  again?(targetId: string): Promise<unknown>;
  /** Removes what a success leaves behind. */
  clean(targetId: string): Promise<void>;
  /** The platform does again by itself what was undone; waits until it has, and makes it as it was prepared. */
  movesOn?(targetId: string): Promise<void>;
  /** Of a variant: the steps that it alone has, or that do something else there. The others are proven without it. */
  of?: string[];
  /** Steps that another variant has. */
  absent?: string[];
  /** What is wrong on purpose, until it is cleaned. */
  onPurpose?: RegExp;
  /** Preparing a create makes things that stay, such as the network of a subnet. */
  keeps?: boolean;
}

const faults: Fault[] = ['failBefore', 'failAfter', 'twice', 'undoTwice'];

/** Every step of an action under every fault that can befall it, with what the model says must come of it. */
export function casesOf(type: string, absent: string[] = [], kinds: readonly Fault[] = faults): Case[] {
  const action = actionNamed(type)?.action;
  const steps = (action?.steps ?? []).map(nameOf);
  const forward = action?.pointOfNoReturn ? steps.indexOf(action.pointOfNoReturn) : steps.length;
  return steps.flatMap((step, index) =>
    absent.includes(step)
      ? []
      : kinds
          .filter((fault) => fault !== 'undoTwice' || (index < forward && hasUndo(step)))
          .map(
            (fault): Case => ({
              step,
              fault,
              expect: fault === 'twice' || fault === 'die' || index >= forward ? 'succeeded' : 'rolledBack',
            }),
          ),
  );
}

const hasUndo = (step: string): boolean => described[step]?.undoText !== undefined;

/** Names of the steps that an action declares; all that are operations count as one, `child`. */
export function declaredSteps(type: string): Set<string> {
  const steps = actionNamed(type)?.action.steps ?? [];
  return new Set(steps.map((step) => (typeof step !== 'string' && 'system' in step ? 'child' : nameOf(step))));
}

/** Names of the steps that an operation took. */
export const takenSteps = (operation: OperationView): string[] =>
  operation.steps.map((step) => ('operationId' in step && step.operationId ? 'child' : step.name));

export interface Verdict extends Case {
  targetId: string;
  operation: OperationView;
  problem: string | null;
}

/** One operation, and the cases that it proves. */
interface Run {
  cases: Case[];
  expect: Case['expect'];
  /** The step in which it fails and from which it is undone. */
  failsIn?: string;
}

/**
 * A step that fails before the point of no return ends its operation, so each has one of its own. The others share: in one each step runs twice;
 * one fails in the last step that can be undone, and each undo runs twice; and behind the point of no return, where a step that failed is tried
 * again, each step of one fails.
 */
function runsOf(cases: readonly Case[]): Run[] {
  const isAlone = ({ fault, expect }: Case): boolean =>
    fault === 'die' || (expect === 'rolledBack' && fault !== 'undoTwice');
  const runs = cases.filter(isAlone).map((one): Run => ({ cases: [one], expect: one.expect, failsIn: one.step }));
  for (const fault of ['undoTwice', 'twice', 'failBefore', 'failAfter'] as const) {
    const shared = cases.filter((one) => one.fault === fault && !isAlone(one));
    const last = shared.at(-1);
    if (last) runs.push({ cases: shared, expect: last.expect, failsIn: last.step });
  }
  return runs;
}

function rulesOf({ cases, expect, failsIn }: Run, at: { operationType: string; targetId: string }): FaultRule[] {
  const rules = cases.map(
    ({ step, fault }): FaultRule => ({ ...at, step, fault, ...(isOnce(fault) ? { times: 1 } : {}) }),
  );
  // Nothing is undone unless something fails.
  if (expect === 'rolledBack' && failsIn && cases.every(({ fault }) => fault === 'undoTwice'))
    rules.push({ ...at, step: failsIn, fault: 'failAfter', times: 1 });
  return rules;
}

/** Tried again, it must not fail again. */
const isOnce = (fault: Fault): boolean => fault === 'failBefore' || fault === 'failAfter';

export interface Checks {
  /** Everything is prepared, and nothing has been asked. */
  before(): Promise<void>;
  /** These have run side by side, and have ended. */
  after?(verdicts: Verdict[]): Promise<void>;
}

/** How many operations run side by side: more make each slower, and need more to be prepared. */
const WIDTH = 8;

/** Those that run side by side, in as few rounds of the same length as the width allows. */
function rounds<T>(all: readonly T[]): T[][] {
  const count = Math.ceil(all.length / WIDTH);
  const length = Math.ceil(all.length / count);
  return Array.from({ length: count }, (_, round) => all.slice(round * length, (round + 1) * length));
}

/** Who asks, of which installation. */
export interface Asking {
  admin: Api;
  tenant: Api;
  databaseUrl: string;
}

/**
 * Runs all cases of a subject. What makes something is asked for all at once. What acts on something that has to be prepared takes turns on
 * it: first the cases that are undone, because what is undone is as it was prepared, and can serve the next one.
 */
export async function runCases(asking: Asking, subject: Subject, cases: Case[], checks: Checks): Promise<Verdict[]> {
  const runs = runsOf(cases);
  const undone = runs.filter(({ expect }) => expect === 'rolledBack');
  const forward = runs.filter(({ expect }) => expect === 'succeeded');
  const makes = subject.type.endsWith('.create');
  const turns = makes ? [runs] : [...rounds(undone), ...(subject.again ? rounds(forward) : [forward])];
  const prepared = await inBatches([...Array(Math.max(...turns.map((turn) => turn.length))).keys()], 8, (index) =>
    subject.prepare(`${subject.type} ${index}`.replaceAll('.', '-')),
  );
  await checks.before();
  const verdicts: Verdict[] = [];
  const changed = new Set<string>();
  for (const turn of turns) {
    const asked = turn.flatMap((run, index) => {
      const request = prepared[index];
      return request ? [{ run, request }] : [];
    });
    await inBatches(asked, 8, async ({ request: { targetId } }) => {
      if (changed.delete(targetId)) await subject.again?.(targetId);
    });
    const ended = await runTurn(asking, subject, asked);
    for (const { targetId, expect } of ended) if (expect === 'succeeded') changed.add(targetId);
    await checks.after?.(ended);
    verdicts.push(...ended);
  }
  return verdicts;
}

async function runTurn(
  { admin, tenant, databaseUrl }: Asking,
  subject: Subject,
  asked: { run: Run; request: Request }[],
): Promise<Verdict[]> {
  await setRules(
    admin,
    asked.flatMap(({ run, request: { targetId } }) => rulesOf(run, { operationType: subject.type, targetId })),
  );
  try {
    const ended = await Promise.all(
      asked.map(async ({ run, request }) => {
        const api = subject.operator ? admin : tenant;
        const accepted = request.ask
          ? await request.ask()
          : await api.call<OperationView>(request.method, request.path, request.body);
        return { run, targetId: request.targetId, operation: await admin.settled(accepted.id) };
      }),
    );
    const struck = await faultsOf(
      databaseUrl,
      ended.map(({ operation }) => operation.id),
    );
    return ended.flatMap(({ run, targetId, operation }) =>
      run.cases.map((at): Verdict => ({ ...at, targetId, operation, problem: judge(at, run, operation, struck) })),
    );
  } finally {
    await setRules(admin, []);
  }
}

/** What befell the steps of operations, each as `<operation>/<fault>/<step>/<do or undo>`: workers note it with each fault. */
async function faultsOf(databaseUrl: string, operationIds: string[]): Promise<Set<string>> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    const { rows } = await client.query<{ struck: string }>(
      `SELECT "callerId" || '/' || key AS struck FROM "idempotencyKey" WHERE "callerId" = ANY($1::uuid[])`,
      [operationIds],
    );
    return new Set(rows.map(({ struck }) => struck));
  } finally {
    await client.end();
  }
}

function judge(at: Case, run: Run, operation: OperationView, struck: ReadonlySet<string>): string | null {
  const ran = operation.steps.some((step) => step.name === at.step);
  if (!ran) return `the step ${at.step} did not run; it ran ${operation.steps.map((step) => step.name).join(', ')}`;
  const wanted = at.expect === 'succeeded' ? 'succeeded' : 'failed';
  if (operation.state !== wanted)
    return `ended ${operation.state} (${operation.error?.message ?? 'no error'}), not ${wanted}`;
  if (wanted === 'failed' && operation.error?.step !== run.failsIn)
    return `failed in ${operation.error?.step}, not in ${run.failsIn}`;
  if (!struck.has(`${operation.id}/${at.fault}/${at.step}/${at.fault === 'undoTwice' ? 'undo' : 'do'}`))
    return 'nothing befell the step';
  return null;
}

/** Replaces the installation's fault rules. */
export async function setRules(admin: Api, rules: FaultRule[]): Promise<void> {
  await setSetting(admin, 'fault.rules', rules);
}

/** The table that a reader wants to see: step by fault. */
export function table(type: string, verdicts: Verdict[]): string {
  const columns = [...new Set(verdicts.map(({ fault }) => fault))];
  const steps = [...new Set(verdicts.map(({ step }) => step))];
  const width = Math.max(...steps.map((step) => step.length), type.length);
  const cell = (step: string, fault: Fault): string => {
    const verdict = verdicts.find((one) => one.step === step && one.fault === fault);
    if (!verdict) return '-';
    return verdict.problem ? 'WRONG' : verdict.expect === 'succeeded' ? 'forward' : 'undone';
  };
  return [
    [type.padEnd(width), ...columns.map((fault) => fault.padEnd(10))],
    ...steps.map((step) => [step.padEnd(width), ...columns.map((fault) => cell(step, fault).padEnd(10))]),
  ]
    .map((row) => row.join('  '))
    .join('\n');
}
