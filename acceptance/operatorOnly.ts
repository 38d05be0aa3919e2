/** What is for those who run the platform, whoever holds its permission elsewhere. */
import type { Action } from '../model/kind.ts';
import { Problem } from '../runtime/problem.ts';
import { isOperator } from './caller.ts';
import type { Change } from './change.ts';

/** A delete is one, whatever it takes along. */
export const permissionOf = ({ kind, verb }: Pick<Change, 'kind' | 'verb'>): string =>
  `${kind.name}.${verb === 'cascade' ? 'delete' : verb}`;

/** What only those who run the platform may do or set. */
export function refuseOperatorOnly(
  change: Pick<Change, 'kind' | 'verb' | 'caller' | 'permitted'>,
  action: Action,
  input: Record<string, unknown>,
): void {
  const { kind, caller, permitted } = change;
  const permission = permissionOf(change);
  if (isOperator(caller, permission)) return;
  const forOperators = action.operatorOnly || (change.verb === 'cascade' && kind.actions.delete?.operatorOnly);
  if (forOperators && !permitted) throw new Problem('FORBIDDEN', `${permission} is for operators`);
  for (const [name, { operatorOnly }] of Object.entries(kind.fields)) {
    const value = input[name];
    if (!operatorOnly || value == null || (operatorOnly !== true && !operatorOnly.includes(String(value)))) continue;
    throw new Problem(
      'FORBIDDEN',
      `${name} can be set ${operatorOnly === true ? '' : `to ${String(value)} `}by operators only`,
      {
        violations: [{ field: name, message: 'is for operators' }],
      },
    );
  }
}
