import { change } from './call.ts';
import { domain, timeoutSeconds } from './fields.ts';

export const calls = {
  'domain.ensureRunning': change(domain),
  /** Pulls the plug; the definition stays. */
  'domain.ensureOff': change(domain),
  'domain.reset': change(domain),
};

export const tasks = {
  /** Guest shutdown by ACPI or guest agent; fails with TIMEOUT and leaves the guest as it is. */
  'domain.shutDown': change({ ...domain, timeoutSeconds }),
  /** ACPI reboot; falls back to nothing. */
  'domain.reboot': change({ ...domain, timeoutSeconds }),
};
