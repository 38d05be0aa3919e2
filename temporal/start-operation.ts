import { type Client, WorkflowExecutionAlreadyStartedError } from '@temporalio/client';
import { TypedSearchAttributes } from '@temporalio/common';
import { belayOperation, belayProject, belayResource, belayTarget } from './search-attributes.ts';

export interface StartOperation {
  id: string;
  /** `instance.create`; runs the workflow `createInstance`. */
  type: string;
  input: Record<string, unknown>;
  targetKind: string;
  targetId: string;
  /** As it is called now; its id says it where it has no name. */
  targetName: string;
  projectId: string | null;
}

/** `instance.create` → `createInstance`. */
export function workflowName(type: string): string {
  const [kind = '', verb = ''] = type.split('.');
  return `${verb}${kind.charAt(0).toUpperCase()}${kind.slice(1)}`;
}

/** `securityGroup.setRules` → `set rules security group`. */
const words = (text: string): string => text.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);

/** What a person reads of a run in Temporal: `create instance web-1`. Names go there, nothing else that a tenant wrote. */
export function titleOf({ type, targetKind, targetName }: StartOperation): string {
  const [, verb = type] = type.split('.');
  // It is shown as Markdown.
  return `${words(verb)} ${words(targetKind)} ${targetName}`.replace(/[`*_[\]<>]/g, ' ').slice(0, 190);
}

/** More at once only makes each slower, and takes from the workers what would finish the ones before. */
const startsAtOnce = 2;
const waiting: (() => void)[] = [];
let starting = 0;

/** Whether a further start would wait for others of this process. */
export const startsWait = (): boolean => starting >= startsAtOnce;

/** Asks for the operation's workflow. Asking twice is harmless: the workflow's id is the operation's. */
export async function startOperation(client: Client, operation: StartOperation): Promise<void> {
  if (starting < startsAtOnce) starting += 1;
  else await new Promise<void>((resolve) => waiting.push(resolve));
  try {
    await start(client, operation);
  } finally {
    const next = waiting.shift();
    if (next) next();
    else starting -= 1;
  }
}

async function start(client: Client, operation: StartOperation): Promise<void> {
  try {
    await client.workflow.start(workflowName(operation.type), {
      workflowId: operation.id,
      taskQueue: 'control',
      args: [operation.input],
      workflowIdReusePolicy: 'REJECT_DUPLICATE',
      // Whatever of it waits for a worker, its steps too, waits in turn with what other projects wait for.
      priority: { fairnessKey: operation.projectId ?? 'platform' },
      staticSummary: titleOf(operation),
      typedSearchAttributes: new TypedSearchAttributes([
        { key: belayOperation, value: operation.type },
        { key: belayTarget, value: `${operation.targetKind} ${operation.targetName}`.slice(0, 255) },
        { key: belayResource, value: `${operation.targetKind}/${operation.targetId}` },
        ...(operation.projectId ? [{ key: belayProject, value: operation.projectId }] : []),
      ]),
    });
  } catch (error) {
    if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
  }
}
