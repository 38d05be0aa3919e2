import { columnsOf } from '../model/columns.ts';
import { instantFormat } from '../model/forms.ts';
import type { Kind } from '../model/kind.ts';
import { actorMembers } from '../model/veil.ts';

/** What clients are told of a resource of this kind, as columns of a statement, each in the form in which it is told. */
export const toldColumns = (kind: Kind): string =>
  columnsOf(kind)
    .filter(({ hidden, name }) => !hidden && !Object.hasOwn(actorMembers, name))
    .map(({ name, type }) =>
      type === 'timestamptz' ? `to_char("${name}" AT TIME ZONE 'UTC', '${instantFormat}') AS "${name}"` : `"${name}"`,
    )
    .join(', ');

/** What a row of the event stream needs; its place in the stream is given by the sealer, after the commit. */
export interface EventInput {
  type: string;
  severity?: 'info' | 'warning' | 'error' | 'critical';
  resourceKind: string;
  resourceId: string;
  projectId: string | null;
  operationId?: string | null;
  payload: unknown;
}

export const eventRow = (event: EventInput): Record<string, unknown> => ({
  id: crypto.randomUUID(),
  type: event.type,
  severity: event.severity ?? 'info',
  resourceKind: event.resourceKind,
  resourceId: event.resourceId,
  projectId: event.projectId,
  operationId: event.operationId ?? null,
  payload: event.payload,
});
