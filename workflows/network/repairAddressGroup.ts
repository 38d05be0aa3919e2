import { addressGroups } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Writes the row of an address group anew. It only goes forward: the undo would empty what rules name. */
export const repairAddressGroup = workflow('addressGroup.repair', async (step, { addressGroupId }) => {
  step.commit();
  await step(addressGroups.make, { addressGroupId });
});
