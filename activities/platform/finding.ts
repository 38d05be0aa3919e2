import { repairOf } from '../../database/findings.ts';
import type { ChildRequest } from '../../model/platform/operation.ts';
import { refuse } from '../failure.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';

export const findings = ({ database }: World) => ({
  /** What mends it. Whether that is still needed is asked by what does; what is gone, or in another state by now, needs no mending any more. */
  examine: step({
    system: 'record',
    async do({ findingId }: { findingId: string }): Promise<ChildRequest> {
      const [found] = await repairOf(database.connections, { id: findingId });
      if (!found?.action) throw refuse('PRECONDITION_FAILED', `nothing is known that would mend finding ${findingId}`);
      const { action, targetId, input } = found;
      return { type: action, targetId, input, whileFit: true };
    },
  }),
});
