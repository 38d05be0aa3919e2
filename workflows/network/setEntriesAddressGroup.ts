import { addressGroups } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Replaces all entries at once. There is no way back once the records hold the new ones: the undo takes the old ones from there. */
export const setEntriesAddressGroup = workflow('addressGroup.setEntries', async (step, { addressGroupId, entries }) => {
  await step(addressGroups.replaceEntries, { addressGroupId, entries });
  step.commit();
  await step(addressGroups.recordEntries, { addressGroupId, entries });
});
