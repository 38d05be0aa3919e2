/**
 * Operations that an operation begins, each a step of it. A child has its own record, rights, rollback and run; its run is a child of this one,
 * so that Temporal's page leads from one to the other.
 */
import {
  CancellationScope,
  CancelledFailure,
  ChildWorkflowCancellationType,
  type ChildWorkflowHandle,
  condition,
  defineSignal,
  ParentClosePolicy,
  setHandler,
  startChild,
  type Workflow,
} from '@temporalio/workflow';
import type { StepReport } from '../activities/step.ts';
import type { ChildRequest, StartOperation } from '../model/platform/operation.ts';
import { runOptions, workflowName } from '../temporal/run.ts';

/** The dispatcher says that a child is first in line on everything it touches. */
export const turnSignal = defineSignal<[operationId: string]>('turn');
/** The operation above asks this one to undo itself. */
export const cancelSignal = defineSignal('cancel');

/** Writes to the operation's own records; see `saga`. */
type WriteRecord = (name: string, input: Record<string, unknown>) => Promise<unknown>;

/** What `operations.acceptChild` is asked. */
interface Asked {
  stepIndex: number;
  key: string;
  request: ChildRequest;
  goesOn: boolean;
}
type AcceptChild = (asked: Asked) => Promise<unknown>;

/** Runs one child to its end, and answers what it answered. Asked again with the same key, it follows the first. */
export type RunChild = (report: StepReport, key: string, request: ChildRequest, goesOn: boolean) => Promise<unknown>;

export function childRuns(record: WriteRecord, accept: AcceptChild): RunChild {
  const turns = new Set<string>();
  setHandler(turnSignal, (id) => void turns.add(id));

  return async (report, key, request, goesOn) => {
    const accepted = await CancellationScope.nonCancellable(() =>
      accept({ stepIndex: report.index, key, request, goesOn }),
    );
    const { start, waits } = accepted as { start: StartOperation | null; waits: boolean };
    if (!start) return null;
    report.operationId = start.id;
    let begun: Promise<ChildWorkflowHandle<Workflow>> | undefined;
    let dropped = false;
    let over = false;

    /** It may be waiting, running or over: it is waited for in any case. */
    const cancel = async (): Promise<void> => {
      const { running } = (await record('cancelChild', { childId: start.id })) as { running: boolean };
      if (!running) dropped = true;
      // One that has ended by then hears nothing any more, and need not.
      else await (await begun)?.signal(cancelSignal).catch(() => {});
    };
    CancellationScope.current().cancelRequested.catch(() => {
      if (!over) void CancellationScope.nonCancellable(cancel);
    });

    return CancellationScope.nonCancellable(async () => {
      if (waits) await condition(() => dropped || turns.has(start.id));
      if (dropped) throw new CancelledFailure('cancelled on request');
      begun = startChild(workflowName(start.type), {
        ...runOptions(start),
        parentClosePolicy: ParentClosePolicy.ABANDON,
        cancellationType: ChildWorkflowCancellationType.ABANDON,
      });
      return (await begun).result();
    }).finally(() => {
      over = true;
    });
  };
}
