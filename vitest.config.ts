import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

const root = fileURLToPath(new URL('.', import.meta.url));

/** Where tests keep what is worth keeping from run to run, apart from an installation in the same checkout. */
export const testHome = resolve(
  process.env.BELAY_TEST_HOME ?? join(process.env.BELAY_HOME ?? join(root, '.belay'), 'test'),
);
process.env.BELAY_TEST_HOME = testHome;

/** One set-up for all files of a project: there is one stack, and one lab, per run. */
function sharedSetup(folder: string): { globalSetup: string[] } | undefined {
  const path = `test/${folder}/setup.ts`;
  // A run that only counts the tests it skips starts nothing.
  const countsOnly = process.env.BELAY_TESTS_SKIPPED === folder;
  return existsSync(new URL(path, import.meta.url)) && !countsOnly ? { globalSetup: [path] } : undefined;
}

/**
 * On simulated hosts: on one cloud that all files of the folder share, where that has a set-up. They follow one another in one process: what all of them
 * load is loaded once.
 */
const onSimulatedHosts = (name: string) => ({
  test: {
    name,
    include: [`test/${name}/**/*.test.ts`],
    fileParallelism: false,
    isolate: false,
    testTimeout: 120_000,
    hookTimeout: 120_000,
    ...sharedSetup(name),
  },
});

/** It ends with the removal of all that the other files of the lab use. */
const lastFile = join(root, 'test/lab/lab.test.ts');

class LastFileLast extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const isLast = ({ moduleId }: TestSpecification): boolean => moduleId === lastFile;
    return [...sorted.filter((file) => !isLast(file)), ...sorted.filter(isLast)];
  }
}

export default defineConfig({
  test: {
    root,
    // What two pictures of the world differ in is told whole.
    chaiConfig: { truncateThreshold: 4_000 },
    sequence: { sequencer: LastFileLast },
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts'],
          pool: 'threads',
          // What nearly all of them load is loaded once per worker, which halves what they cost.
          isolate: false,
          maxWorkers: '100%',
          testTimeout: 30_000,
          hookTimeout: 60_000,
        },
      },
      {
        // They begin thousands of programs, which is dear for a process that all other tests have made large: these have one of their own.
        test: {
          name: 'files',
          include: ['test/files/**/*.test.ts'],
          pool: 'forks',
          testTimeout: 30_000,
          hookTimeout: 60_000,
        },
      },
      {
        // What the database decides: on a PostgreSQL, without any other server.
        test: {
          name: 'database',
          include: ['test/database/**/*.test.ts'],
          pool: 'threads',
          maxWorkers: '100%',
          testTimeout: 60_000,
          hookTimeout: 60_000,
          ...sharedSetup('database'),
        },
      },
      { test: { name: 'history', include: ['test/history/**/*.test.ts'], maxWorkers: '100%', testTimeout: 60_000 } },
      onSimulatedHosts('sim'),
      onSimulatedHosts('network'),
      onSimulatedHosts('operations'),
      // What hosts do by themselves, and what people ask of them: most of it is waiting, so it goes on beside the others, on clouds of their own.
      onSimulatedHosts('hosts'),
      onSimulatedHosts('hostOperations'),
      onSimulatedHosts('rollback'),
      // Processes are killed and suspended here, so each file starts a control plane of its own.
      onSimulatedHosts('kill'),
      onSimulatedHosts('faults'),
      {
        test: {
          name: 'lab',
          include: ['test/lab/**/*.test.ts'],
          fileParallelism: false,
          testTimeout: 300_000,
          hookTimeout: 300_000,
          ...sharedSetup('lab'),
        },
      },
    ],
  },
});
