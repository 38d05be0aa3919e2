import {
  type Client,
  Connection,
  Client as TemporalClient,
  WorkflowExecutionAlreadyStartedError,
} from '@temporalio/client';
import { TypedSearchAttributes } from '@temporalio/common';
import { config } from '../runtime/config.ts';
import { belayOperation, belayProject, belayResource } from './search-attributes.ts';

export interface StartOperation {
  id: string;
  /** `instance.create`; runs the workflow `createInstance`. */
  type: string;
  input: Record<string, unknown>;
  summary: string;
  targetKind: string;
  targetId: string;
  projectId: string | null;
}

/** `instance.create` → `createInstance`. */
export function workflowName(type: string): string {
  const [kind = '', verb = ''] = type.split('.');
  return `${verb}${kind.charAt(0).toUpperCase()}${kind.slice(1)}`;
}

/** A client that connects at its first use, so that an API server starts while Temporal is away. */
export function openTemporal(): Client {
  return new TemporalClient({
    connection: Connection.lazy({ address: config.temporalAddress }),
    namespace: config.temporalNamespace,
  });
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
      staticSummary: operation.summary.replace(/[`*_[\]<>]/g, ' ').slice(0, 190),
      typedSearchAttributes: new TypedSearchAttributes([
        { key: belayOperation, value: operation.type },
        { key: belayResource, value: `${operation.targetKind}/${operation.targetId}` },
        ...(operation.projectId ? [{ key: belayProject, value: operation.projectId }] : []),
      ]),
    });
  } catch (error) {
    if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
  }
}
