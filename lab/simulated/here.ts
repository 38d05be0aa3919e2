/**
 * Preloaded into a worker (`node --import`): hosts under `sim://here/…` are in its own process. Each runs as many guests as BELAY_SIMULATED_GUESTS says,
 * of a vCPU and 128 MiB.
 */
import { isMainThread } from 'node:worker_threads';

if (isMainThread && ['host', 'control'].includes(process.env.BELAY_ROLE ?? '')) {
  if (process.env.BELAY_ALLOW_SIMULATED_HOSTS !== '1')
    throw new Error('simulated hosts are for where they are allowed: set BELAY_ALLOW_SIMULATED_HOSTS=1');
  const { reachSimulatedBy } = await import('../../host-agent/connection.ts');
  const { hostsHere } = await import('./inProcess.ts');
  const perHost = Number(process.env.BELAY_SIMULATED_GUESTS ?? 0);
  reachSimulatedBy('here', hostsHere({ perHost, vcpus: 1, memoryMib: 128 }).connect);
}
