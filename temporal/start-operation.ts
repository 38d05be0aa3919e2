import { type Client, WorkflowExecutionAlreadyStartedError } from '@temporalio/client';
import { TypedSearchAttributes } from '@temporalio/common';
import type { StartOperation } from '../model/platform/operation.ts';
import { runOptions, workflowName } from './run.ts';

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
  const { typedSearchAttributes, ...options } = runOptions(operation);
  try {
    await client.workflow.start(workflowName(operation.type), {
      ...options,
      typedSearchAttributes: new TypedSearchAttributes(typedSearchAttributes),
    });
  } catch (error) {
    if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
  }
}
