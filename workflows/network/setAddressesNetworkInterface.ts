import { networkInterfaceRecords, networkInterfaces } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Gives an interface other addresses. There is no way back once the records hold them: then those before are anybody's. */
export const setAddressesNetworkInterface = workflow(
  'networkInterface.setAddresses',
  async (step, { networkInterfaceId, address, address6, secondaryAddresses }) => {
    const { change } = await step(networkInterfaceRecords.takeAddresses, {
      networkInterfaceId,
      address,
      address6,
      secondaryAddresses,
    });
    await step(networkInterfaces.rewrite, { networkInterfaceId, change });
    step.commit();
    await step(networkInterfaceRecords.writeAddresses, { networkInterfaceId, change });
  },
);
