/** BMCs of simulated hosts. */
import type { BmcMishap } from '../../lab/redfish.ts';
import type { SimulatedBmc } from '../../lab/simulated/admin.ts';
import { befall } from './simulated.ts';

/** What a host of this name is told of with its BMC. */
export async function bmcOf(simulatorUrl: string, name: string) {
  const { bmc, bmcPassword } = (await (await fetch(`${simulatorUrl}/_sim/bmc`)).json()) as SimulatedBmc;
  return { bmc: { ...bmc, user: name, system: name }, bmcPassword };
}

export const setBmc = (simulatorUrl: string, name: string, mishap: BmcMishap | null): Promise<void> =>
  befall(simulatorUrl, name, 'bmc', { mishap });

/** By its switch, and not by Belay. */
export const setPower = (simulatorUrl: string, name: string, on: boolean): Promise<void> =>
  befall(simulatorUrl, name, 'power', { on });
