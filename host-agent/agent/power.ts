import { Problem } from '../problem.ts';
import type { Tasks } from '../protocol.ts';
import { domainStatus, isActive } from './domainState.ts';
import { type DomainContext, findOwn, requireOwn, statusOf } from './domains.ts';
import { type Domain, LibvirtError, type LibvirtSession } from './libvirt.ts';
import type { TaskContext } from './tasks.ts';

/** A guest that was still booting has missed the button; pressing it again does no harm. */
const ASK_AGAIN_MS = 10_000;
const LOOK_MS = 250;
const PROGRESS_WHILE_WAITING = 50;

/** Asks through the agent if one answers, else by ACPI. */
async function ask(session: LibvirtSession, domain: Domain, what: 'shutdown' | 'reboot'): Promise<void> {
  try {
    await session[what](domain, 'agent');
  } catch (error) {
    if (!(error instanceof LibvirtError)) throw error;
    await session[what](domain, 'acpi');
  }
}

async function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener('abort', done, { once: true });
  });
}

/** Ends when the guest is off; a domain that is off or absent is so already. */
export async function shutDown(
  context: DomainContext,
  { id, timeoutSeconds }: Tasks['domain.shutDown']['input'],
  task: TaskContext,
): Promise<Record<string, never>> {
  const shared = await context.libvirt.session();
  if (!(await findOwn(shared, id))) return {};
  return context.libvirt.withOwnSession(async (session) => {
    const deadline = Date.now() + timeoutSeconds * 1_000;
    let askAt = 0;
    task.progress(PROGRESS_WHILE_WAITING);
    while (isActive((await statusOf(session, id)).state)) {
      task.signal.throwIfAborted();
      if (Date.now() > deadline) {
        throw new Problem('TIMEOUT', `the guest of ${id} did not shut down within ${timeoutSeconds} s; it runs on`);
      }
      if (Date.now() > askAt) {
        askAt = Date.now() + ASK_AGAIN_MS;
        // It may have ended since the look above; then the next look ends the loop.
        await ask(session, await requireOwn(session, id), 'shutdown').catch((error) => {
          if (!(error instanceof LibvirtError)) throw error;
        });
      }
      await sleep(LOOK_MS, task.signal);
    }
    return {};
  });
}

/** Ends when the machine has been reset, which is before the guest is up again. */
export async function reboot(
  context: DomainContext,
  { id, timeoutSeconds }: Tasks['domain.reboot']['input'],
  task: TaskContext,
): Promise<Record<string, never>> {
  let rebooted = false;
  const stop = context.libvirt.onEvent((event) => {
    if (event.kind === 'rebooted' && event.domain.uuid === id) rebooted = true;
  });
  try {
    return await context.libvirt.withOwnSession(async (session) => {
      const domain = await requireOwn(session, id);
      const { state } = domainStatus(await session.state(domain));
      if (state !== 'running') throw new Problem('INVALID_STATE', `instance ${id} is ${state}, not running`);
      const deadline = Date.now() + timeoutSeconds * 1_000;
      task.progress(PROGRESS_WHILE_WAITING);
      await ask(session, domain, 'reboot');
      while (!rebooted) {
        task.signal.throwIfAborted();
        if (Date.now() > deadline) {
          throw new Problem('TIMEOUT', `the guest of ${id} did not reboot within ${timeoutSeconds} s; it runs on`);
        }
        await sleep(LOOK_MS, task.signal);
      }
      return {};
    });
  } finally {
    stop();
  }
}
