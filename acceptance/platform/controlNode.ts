import { type ControlRole, lockRole, othersUp } from '../../database/controlNodes.ts';
import { Problem } from '../../runtime/problem.ts';
import type { Hooks } from '../change.ts';

export const controlNodeHooks: Hooks = {
  'controlNode.drain': {
    async accept({ tx, row, input }) {
      if (input.force) return;
      // Of two that are drained at the same moment each must see the other.
      await lockRole(tx, { role: String(row.role) });
      const [other] = await othersUp(tx, { role: row.role as ControlRole, except: row.id });
      if (!other)
        throw new Problem(
          'PRECONDITION_FAILED',
          `${String(row.name)} is the only ${String(row.role)} process that is up: what it does would wait until one takes work again. Start another, or say force`,
        );
    },
  },
  'controlNode.delete': {
    refuse({ id, name, state }) {
      if (state !== 'lost')
        throw new Problem(
          'INVALID_STATE',
          `control node ${id} (${String(name)}) is ${String(state)}: it removes itself when it ends`,
          { state: String(state), fits: ['lost'] },
        );
    },
  },
};
