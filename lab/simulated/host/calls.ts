/** Every call and task, and what serves it. */
import type { CALLS, TASKS } from '../../../host-agent/protocol.ts';
import * as boot from './boot.ts';
import * as domains from './domains.ts';
import * as facts from './facts.ts';
import * as files from './files.ts';
import type { CallHandlers, TaskHandlers } from './host.ts';
import * as hypervisor from './hypervisor.ts';
import * as images from './images.ts';
import * as migration from './migration.ts';
import * as power from './power.ts';
import * as serial from './serial.ts';
import * as storage from './storage.ts';
import * as localSwitch from './switch.ts';
import * as witness from './witness.ts';

export const calls = {
  ...facts.calls,
  ...boot.calls,
  ...hypervisor.calls,
  ...localSwitch.calls,
  ...storage.calls,
  ...images.calls,
  ...files.calls,
  ...domains.calls,
  ...power.calls,
  ...migration.calls,
  ...serial.calls,
  ...witness.calls,
} satisfies CallHandlers<typeof CALLS>;

export const tasks = {
  ...facts.tasks,
  ...images.tasks,
  ...files.tasks,
  ...power.tasks,
  ...migration.tasks,
} satisfies TaskHandlers<typeof TASKS>;
