import { fileURLToPath } from 'node:url';
import type { TestProject } from 'vitest/node';
import { boardOf } from '../../runtime/progress.mjs';
import { lightTemporal } from '../../temporal/binaries.ts';
import { type CloudAddress, startSimulatedCloud } from '../support/cloud.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    cloud: CloudAddress;
  }
}

const installation = fileURLToPath(new URL('../../.belay', import.meta.url));

/**
 * One control plane over simulated hosts, shared by all files of a project. Its Temporal is the command that the demo takes on a fresh machine; projects
 * that kill processes, undo every step, or are about real hosts have the server on PostgreSQL.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  // Nobody waits half a minute for an upload that is too slow.
  const environment = {
    BELAY_UPLOAD_WINDOW_SECONDS: '5',
    BELAY_UPLOAD_LEAST_BYTES: '65536',
    // The tests look for each refusal by itself.
    BELAY_REFUSALS_PER_MINUTE: '1000000',
  };
  const cloud = await startSimulatedCloud({
    hosts: 8,
    faultInjection: true,
    environment,
    temporal: () => lightTemporal(installation, boardOf(console.log)),
  });
  project.provide('cloud', cloud.address);
  return cloud.stop;
}
