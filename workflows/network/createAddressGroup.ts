import { addressGroups } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Makes an address group with its entries. */
export const createAddressGroup = workflow('addressGroup.create', async (step, { addressGroupId }) => {
  await step(addressGroups.make, { addressGroupId });
});
