import { findings } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Runs what mends a finding, as an operation of its own. One that fails has undone itself, and the finding is open again. */
export const repairFinding = workflow('finding.repair', async (step, { findingId }) => {
  const request = await step(findings.examine, { findingId });
  await step.child(request);
  return { by: request.type };
});
