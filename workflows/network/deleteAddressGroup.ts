import { addressGroups } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Removes a group that no rule names. There is no way back once its row is gone. */
export const deleteAddressGroup = workflow('addressGroup.delete', async (step, { addressGroupId }) => {
  await step(addressGroups.proveUnused, { addressGroupId });
  step.commit();
  await step(addressGroups.remove, { addressGroupId });
});
