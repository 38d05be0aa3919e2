import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { openApi } from '../../lab/api.ts';
import { freePorts } from '../../lab/ports.ts';
import { type Cloud, provision, timing } from '../../lab/provision.ts';
import { downLab, upLab } from '../../lab/real/lab.ts';
import { type Stack, startStack } from '../../lab/stack.ts';
import { realUnderlay } from '../../lab/underlay.ts';
import { hostFiles } from './hostFiles.ts';

/** What the tests need to speak to the cloud and to look at what is below it. */
export interface LabCloud {
  /** Of the lab. */
  home: string;
  apiUrl: string;
  token: string;
  databaseUrl: string;
  cloud: Omit<Cloud, 'tenant'>;
  /** The files of host 3 before it was added. */
  untouchedHost: string[];
}

declare module 'vitest' {
  export interface ProvidedContext {
    lab: LabCloud;
  }
}

/** One control plane over three real hosts, Ceph and OVN, from nothing; afterwards nothing of it is left. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const home = process.env.BELAY_TEST_HOME;
  if (!home) throw new Error('BELAY_TEST_HOME names no directory');
  const stateDirectory = join(home, 'stack-of-lab');
  const lines: string[] = [];
  const log = (line: string): void => void lines.push(line);
  let stack: Stack | undefined;
  const stop = async (): Promise<void> => {
    await stack?.stop();
    rmSync(stateDirectory, { recursive: true, force: true });
    await downLab(home, { keep: false });
  };
  mkdirSync(home, { recursive: true });
  await downLab(home, { keep: false });
  rmSync(stateDirectory, { recursive: true, force: true });
  try {
    const lab = await upLab(home, log);
    const untouchedHost = await hostFiles(lab, 3);
    stack = await startStack({
      home: stateDirectory,
      ports: await freePorts(),
      ovn: lab.ovn,
      allowSimulatedHosts: false,
      faultInjection: true,
      log,
    });
    const admin = openApi(stack.apiUrl, stack.token);
    const { tenant: _, ...cloud } = await provision(
      admin,
      realUnderlay(lab),
      timing((what, ms) => log(`${what} ${(ms / 1000).toFixed(1)} s`)),
    );
    // Who lets a host fail says himself when it is to be found.
    await admin.call('PATCH', `/v1/clusters/${cloud.cluster.id}`, {
      ha: { enabled: true, requireFence: true, suspectSeconds: 3600 },
    });
    const { apiUrl, token, databaseUrl } = stack;
    project.provide('lab', { home, apiUrl, token, databaseUrl, cloud, untouchedHost });
    return stop;
  } catch (error) {
    console.error(lines.join('\n'));
    if (!process.env.BELAY_KEEP) await stop();
    throw error;
  }
}
