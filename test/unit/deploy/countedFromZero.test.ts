/** What an alert asks the increase of is told before it first happens: Prometheus sees no increase in a series that begins with it. */
import { expect, it } from 'vitest';
import { metricsText } from '../../../runtime/metrics.ts';
import '../../../activities/platform/forgotten.ts';
import '../../../activities/platform/maintenance.ts';
import '../../../workers/callbacks.ts';

it.each([
  'belay_records_released_total{kind="instance"}',
  'belay_callbacks_total{outcome="givenUp"}',
  'belay_maintenance_runs_total{name="archiveOld",outcome="failed"}',
  'belay_maintenance_runs_total{name="archiveOld",outcome="succeeded"}',
])('%s is 0 at first', async (series) => {
  expect((await metricsText()).body.split('\n')).toContain(`${series} 0`);
});
