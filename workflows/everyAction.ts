/** Types alone: an action without its workflow, a workflow without its action, and one under another's name do not compile. */
import type { OperationType } from '../model/actions.ts';
import type { MaintenanceName } from '../model/platform/maintenance.ts';
import type { WorkflowName } from '../temporal/run.ts';
import type { Workflow } from './workflow.ts';

type Exported = typeof import('./index.ts');

/** What a Temporal Schedule runs is no operation. */
type Scheduled = Record<MaintenanceName | 'runSchedule', (input: never) => Promise<unknown>>;

type Wanted = Scheduled & { [T in OperationType as WorkflowName<T>]: Workflow<T> };

type Complete<_All extends Wanted, _Besides extends never> = true;

export type EveryActionHasItsWorkflow = Complete<Exported, Exclude<keyof Exported, keyof Wanted>>;
