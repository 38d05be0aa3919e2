import { saga } from '../saga.ts';
import { networks } from '../steps.ts';

export interface DeleteNetwork {
  networkId: string;
}

/** Removes a network without interfaces and subnets. There is no way back. */
export async function deleteNetwork({ networkId }: DeleteNetwork): Promise<void> {
  await saga(async (step) => {
    step.commit();
    await step(networks.remove, { networkId });
  });
}
