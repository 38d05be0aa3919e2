import { startSimulator } from '../../../lab/simulated/simulator.ts';
import { contract } from '../../support/contract.ts';
import { simulatedPlace } from './contractPlace.ts';

contract(async () => {
  const simulator = await startSimulator({ hosts: 2, bootMs: 1, shutDownMs: 1, migrationMs: 20 });
  return simulatedPlace(simulator, [0, 1].map(simulator.hostAddress), simulator.ceph, () => simulator.stop());
});
