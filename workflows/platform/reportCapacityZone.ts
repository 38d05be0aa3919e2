import { zones } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** The report is the operation's result: those of before stand among the operations of the zone. */
export const reportCapacityZone = workflow('zone.reportCapacity', (step, { zoneId }) =>
  step(zones.measureCapacity, { zoneId }),
);
