import type { TestProject } from 'vitest/node';
import { type CloudAddress, startSimulatedCloud } from '../support/cloud.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    cloud: CloudAddress;
  }
}

/** One control plane over simulated hosts, shared by all files of this project. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const cloud = await startSimulatedCloud({ hosts: 8, faultInjection: true });
  project.provide('cloud', cloud.address);
  return cloud.stop;
}
