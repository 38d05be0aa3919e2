import { saga } from '../saga.ts';
import { networks } from '../steps.ts';

export interface CreateNetwork {
  networkId: string;
}

/** Makes a network: its logical switch, closed to what no security group lets in. */
export async function createNetwork({ networkId }: CreateNetwork): Promise<void> {
  await saga(async (step) => {
    await step(networks.make, { networkId });
  });
}
