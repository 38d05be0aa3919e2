/** What an action's steps are, as `operation-types` and dry runs answer it: which ones says the model, where they work and what undoes them the steps themselves. */
import { steps as described } from '../generated/steps.ts';
import { type Action, nameOf, type StepDeclaration, type StepDescription, type System } from '../model/kind.ts';
import { allKinds } from '../model/kinds.ts';
import { createSchema, type JsonSchema } from '../model/schemas.ts';
import { idOf } from './wellKnown.ts';

function describe(declared: StepDeclaration): { system: System; undoText?: string | null; when?: string } {
  if (typeof declared !== 'string' && 'system' in declared) return { ...declared, undoText: declared.undo };
  const known = described[nameOf(declared)];
  if (!known) throw new Error(`there is no step ${nameOf(declared)}`);
  return { ...known, ...(typeof declared === 'string' ? {} : { when: declared.when }) };
}

export function stepsOf({ steps = [], pointOfNoReturn }: Action): StepDescription[] {
  let onlyForward = false;
  return steps.map((declared) => {
    const name = nameOf(declared);
    onlyForward ||= name === pointOfNoReturn;
    const { system, undoText, when } = describe(declared);
    return { name, system, undo: onlyForward ? null : (undoText ?? null), ...(when ? { when } : {}) };
  });
}

export function operationTypeRows(): Record<string, unknown>[] {
  return allKinds.flatMap((kind) =>
    Object.entries(kind.actions)
      .filter(([, action]) => action.mode === 'operation')
      .map(([verb, action]) => ({
        id: idOf(`operationType/${kind.name}.${verb}`),
        name: `${kind.name}.${verb}`,
        description: action.summary,
        targetKind: kind.name,
        inputSchema:
          verb === 'create'
            ? createSchema(kind)
            : ((action.input as unknown as JsonSchema | undefined) ?? { type: 'object', properties: {} }),
        steps: stepsOf(action),
        pointOfNoReturn: action.pointOfNoReturn ?? null,
        lockMode: action.holdsTarget === false ? null : (action.lock ?? 'X'),
        cancellable: action.cancellable === true,
        permission: `${kind.name}.${verb}`,
      })),
  );
}
