/** What a run of an operation is called in Temporal, and how it is found there: one answer, whoever begins it. No I/O: workflows import it. */
import { partsOfType } from '../model/operationName.ts';
import type { StartOperation } from '../model/platform/operation.ts';
import { belayOperation, belayProject, belayResource, belayTarget } from './search-attributes.ts';

/** `instance.create` → `createInstance`, for the compiler. */
export type WorkflowName<T extends string> = T extends `${infer K}.${infer V}` ? `${V}${Capitalize<K>}` : T;

/** `instance.create` → `createInstance`; a cascade is the same for all kinds. */
export function workflowName(type: string): string {
  const { kindName, verb } = partsOfType(type);
  if (verb === 'cascade') return verb;
  return `${verb}${kindName.charAt(0).toUpperCase()}${kindName.slice(1)}`;
}

/** `securityGroup.setRules` → `set rules security group`. */
const words = (text: string): string => text.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);

/** What a person reads of a run in Temporal: `create instance web-1`. Names go there, nothing else that a tenant wrote. */
export function titleOf({ type, targetKind, targetName }: StartOperation): string {
  const { verb } = partsOfType(type);
  // It is shown as Markdown.
  return `${words(verb)} ${words(targetKind)} ${targetName}`.replace(/[`*_[\]<>]/g, ' ').slice(0, 190);
}

/** How its run is begun, by a client or by the run of its parent: its workflow's id is the operation's. */
export const runOptions = (operation: StartOperation) => ({
  workflowId: operation.id,
  taskQueue: 'control',
  args: [operation.input] as [Record<string, unknown>],
  workflowIdReusePolicy: 'REJECT_DUPLICATE' as const,
  // Whatever of it waits for a worker, its steps too, waits in turn with what other projects wait for.
  priority: { fairnessKey: operation.projectId ?? 'platform' },
  staticSummary: titleOf(operation),
  typedSearchAttributes: [
    { key: belayOperation, value: operation.type },
    { key: belayTarget, value: `${operation.targetKind} ${operation.targetName}`.slice(0, 255) },
    { key: belayResource, value: `${operation.targetKind}/${operation.targetId}` },
    ...(operation.projectId ? [{ key: belayProject, value: operation.projectId }] : []),
  ],
});
