/**
 * A workflow may run for hours, over an update of Belay. So every recorded history must still lead today's workflows through the very same
 * commands; where one does not, operations under way would hang. `scripts/record-histories.ts` says when to record anew.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundleWorkflowCode, DefaultLogger, Runtime, Worker } from '@temporalio/worker';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { allKinds } from '../../model/kinds.ts';
import { workflowName } from '../../temporal/run.ts';
import * as workflows from '../../workflows/index.ts';
import {
  type History,
  historyFromJson,
  historyToJson,
  type RecordedHistory,
  recordedSteps,
} from '../support/history.ts';
import { declaredSteps } from '../support/rollback.ts';

const here = fileURLToPath(new URL('.', import.meta.url));
const files = readdirSync(here).filter((file) => file.endsWith('.json'));

const recorded = new Map(
  files.map((file) => {
    const { workflowId, history } = JSON.parse(readFileSync(join(here, file), 'utf8')) as RecordedHistory;
    return [file, { workflowId, history: historyFromJson(history) }] as const;
  }),
);

let directory: string;
let codePath: string;

beforeAll(async () => {
  const logger = new DefaultLogger('ERROR');
  Runtime.install({ logger });
  const { code } = await bundleWorkflowCode({
    workflowsPath: fileURLToPath(new URL('../../workflows/index.ts', import.meta.url)),
    logger,
  });
  directory = mkdtempSync(join(tmpdir(), 'belay-replay-'));
  codePath = join(directory, 'workflows.js');
  writeFileSync(codePath, code);
}, 120_000);

afterAll(() => rmSync(directory, { recursive: true, force: true }));

test('every workflow has a history', () => {
  const types = new Set(
    [...recorded.values()].map(
      ({ history }) => history.events?.[0]?.workflowExecutionStartedEventAttributes?.workflowType?.name,
    ),
  );
  expect(Object.keys(workflows).filter((name) => !types.has(name))).toEqual([]);
});

test('undone, cancelled and stuck runs are among them', () => {
  const ends = files.map((file) => /-(\w+)\.json$/.exec(file)?.[1]).filter((end) => end !== undefined);
  expect(ends.sort()).toEqual(['cancelled', 'rolledBack', 'stuckThenRetried']);
});

test('what was recorded are steps that the actions declare', () => {
  const types = allKinds.flatMap(({ name, actions }) => Object.keys(actions).map((verb) => `${name}.${verb}`));
  const undeclared = [...recordedSteps()].flatMap(([workflow, steps]) => {
    const type = types.find((one) => workflowName(one) === workflow);
    const declared = type ? declaredSteps(type) : new Set(['child', 'schedules.align', 'schedules.begin']);
    const ofMaintenance = (step: string): boolean => !type && step.startsWith('audits.');
    return [...steps]
      .filter((step) => !declared.has(step) && !ofMaintenance(step))
      .map((step) => `${workflow}: ${step}`);
  });
  expect(undeclared).toEqual([]);
});

async function problemsOf(histories: Iterable<{ workflowId: string; history: History }>): Promise<string[]> {
  const nameOf = new Map([...recorded].map(([file, { workflowId }]) => [workflowId, file]));
  const problems: string[] = [];
  for await (const { workflowId, error } of Worker.runReplayHistories({ workflowBundle: { codePath } }, histories))
    if (error) problems.push(`${nameOf.get(workflowId)}: ${error.message}`);
  return problems;
}

test("today's workflows replay all of them", async () => {
  expect(recorded.size).toBeGreaterThan(0);
  expect(await problemsOf(recorded.values())).toEqual([]);
}, 120_000);

test('a workflow that does something else than it did is found out', async () => {
  const stop = recorded.get('stopInstance.json');
  if (!stop) throw new Error('there is no history of stopInstance');
  const history = historyFromJson(structuredClone(historyToJson(stop.history)));
  const unbind = history.events?.find(
    ({ activityTaskScheduledEventAttributes: scheduled }) =>
      scheduled?.activityType?.name === 'networkInterfaces.unbind',
  );
  const type = unbind?.activityTaskScheduledEventAttributes?.activityType;
  if (!type) throw new Error('stopInstance does not unbind ports');
  type.name = 'networkInterfaces.unplug';
  expect(await problemsOf([{ ...stop, history }])).toEqual([expect.stringMatching(/stopInstance.*[Nn]ondeterminism/)]);
}, 120_000);
