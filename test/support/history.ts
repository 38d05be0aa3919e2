/** Histories of workflows as JSON: the protobuf message with enum names, bytes as base64, 64-bit numbers as text. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Client, Connection } from '@temporalio/client';
import proto from '@temporalio/proto';

const { History } = proto.temporal.api.history.v1;
export type History = proto.temporal.api.history.v1.IHistory;

export const histories = fileURLToPath(new URL('../history/', import.meta.url));

export interface RecordedHistory {
  /** The operation's id, which steps are tagged with. */
  workflowId: string;
  history: Record<string, unknown>;
}

/** What no replay looks at: who did it, on which machine, in which line of which file, and what the web page shows. */
const needless = new Set([
  'identity',
  'originalExecutionRunId',
  'firstExecutionRunId',
  'requestId',
  'taskId',
  'historySizeBytes',
  'workerVersion',
  'stackTrace',
  'userMetadata',
]);

function slim(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(slim);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, inner]) =>
      needless.has(key) || inner === null ? [] : [[key, slim(inner)] as const],
    ),
  );
}

export function historyToJson(history: History): Record<string, unknown> {
  const plain = History.toObject(History.fromObject(history), { longs: String, enums: String, bytes: String });
  return slim(plain) as Record<string, unknown>;
}

/** Writes down what a workflow that ends, or has ended, did. */
export async function record({ workflow }: Client, workflowId: string, name: string): Promise<void> {
  const handle = workflow.getHandle(workflowId);
  // The record says that it has ended a moment before the workflow does.
  await handle.result().catch(() => {});
  const recording: RecordedHistory = { workflowId, history: historyToJson(await handle.fetchHistory()) };
  writeFileSync(join(histories, `${name}.json`), `${JSON.stringify(recording)}\n`);
}

/** The same of a workflow that has no history yet. */
export async function recordFirst(address: string, workflowId: string, name: string): Promise<void> {
  if (existsSync(join(histories, `${name}.json`))) return;
  const connection = await Connection.connect({ address });
  try {
    await record(new Client({ connection, namespace: 'belay' }), workflowId, name);
  } finally {
    await connection.close();
  }
  console.log(`test/history/${name}.json is new: it belongs to the workflow`);
}

export const historyFromJson = (json: Record<string, unknown>): History => History.fromObject(json);

/** What every run of maintenance and the saga itself ask for. */
const bookkeeping = /^(operations|maintenances)\.|\.undo$/;

/** The steps that a run took, each once, in the order in which they began; what is an operation itself is called `child`. */
export function stepsIn({ events }: History): string[] {
  const names = (events ?? []).flatMap((event) => {
    const { markerName, details } = event.markerRecordedEventAttributes ?? {};
    if (markerName === 'core_local_activity') {
      const [told] = details?.data?.payloads ?? [];
      return [(JSON.parse(Buffer.from(told?.data ?? []).toString()) as { activity_type: string }).activity_type];
    }
    if (event.startChildWorkflowExecutionInitiatedEventAttributes) return ['child'];
    return event.activityTaskScheduledEventAttributes?.activityType?.name ?? [];
  });
  return [...new Set(names.filter((name) => !bookkeeping.test(name)))];
}

/** What all runs take that were recorded, but those from before a change, which have a word of their own in their names; by workflow. */
export function recordedSteps(): Map<string, Set<string>> {
  const steps = new Map<string, Set<string>>();
  for (const file of readdirSync(histories).filter((name) => /^\w+(-\w+)?\.json$/.test(name))) {
    const { history } = JSON.parse(readFileSync(join(histories, file), 'utf8')) as RecordedHistory;
    const [workflow = ''] = file.split(/[-.]/);
    const known = steps.get(workflow) ?? new Set();
    steps.set(workflow, known);
    for (const name of stepsIn(historyFromJson(history))) known.add(name);
  }
  return steps;
}
