/** Histories of workflows as JSON: the protobuf message with enum names, bytes as base64, 64-bit numbers as text. */
import proto from '@temporalio/proto';

const { History } = proto.temporal.api.history.v1;
export type History = proto.temporal.api.history.v1.IHistory;

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

export const historyFromJson = (json: Record<string, unknown>): History => History.fromObject(json);
