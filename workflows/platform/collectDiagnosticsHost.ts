import { hosts } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Asks a host what people ask it when something is wrong; nothing there changes. */
export const collectDiagnosticsHost = workflow('host.collectDiagnostics', (step, { hostId }) =>
  step(hosts.collectDiagnostics, { hostId }),
);
