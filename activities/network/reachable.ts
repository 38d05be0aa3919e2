import type { Queryable } from '../../database/database.ts';
import { destroyedStates, type Target, targetOn } from '../../database/floatingIps.ts';
import { refuse } from '../failure.ts';

/** An interface as what an address of the network may lead to. Between the request and its turn it may have become none. @throws PRECONDITION_FAILED, INVALID_STATE */
export async function reachable(
  on: Queryable,
  { networkInterfaceId, networkId }: { networkInterfaceId: string; networkId: string },
): Promise<Target> {
  const [target] = await targetOn(on, { networkInterfaceId, networkId });
  const { fixedAddress, vpcId } = target ?? {};
  if (!fixedAddress || !vpcId || !target?.reached)
    throw refuse(
      'PRECONDITION_FAILED',
      `interface ${networkInterfaceId} is in no VPC with an uplink to the network of the address`,
    );
  if (target.instanceState && destroyedStates.has(target.instanceState))
    throw refuse('INVALID_STATE', `the instance of interface ${networkInterfaceId} is destroyed`);
  return { networkInterfaceId, fixedAddress, vpcId };
}
