import { Problem } from '../problem.ts';
import { type DomainContext, diskOf, findOwn, statusOf } from './domains.ts';
import { chainOf, escapeXml, parseDisks } from './domainXml.ts';
import type { GuestDisk } from './files.ts';
import { LibvirtError } from './libvirt.ts';

/** So long the guest is held, which neither stops nor moves meanwhile. */
const JOIN_TIMEOUT_MS = 600_000;
const LOOK_MS = 100;

/** A volume as a guest of this host has it; undefined where it does not run, or does not have it. */
export async function guestDisk(context: DomainContext, id: string, volumeId: string): Promise<GuestDisk | undefined> {
  const session = await context.libvirt.session();
  const found = await findOwn(session, id);
  if (!found) return undefined;
  const { state, reason } = await statusOf(session, id);
  if (state !== 'running' && state !== 'paused') return undefined;
  if (reason === 'migration') throw new Problem('INVALID_STATE', `instance ${id} is on its way between hosts`, true);
  const { domain } = found;
  const plugged = diskOf(await session.xml(domain, 'now'), volumeId);
  if (!plugged) return undefined;
  const { target } = plugged;

  const chain = async (): Promise<string[]> => {
    // Who asks for work on the disk waits until libvirt is at nothing else with the domain; the definition alone is told at once, as it was before.
    await session.blockJob(domain, target);
    const disk = diskOf(await session.xml(domain, 'now'), volumeId);
    if (!disk) throw new Problem('INVALID_STATE', `instance ${id} has let go of volume ${volumeId}`, true);
    return chainOf(disk);
  };

  return {
    chain,
    async put(path) {
      // A disk that is not named would be taken, too.
      const others = parseDisks(await session.xml(domain, 'now'))
        .filter((disk) => disk.target !== target)
        .map((disk) => `<disk name='${escapeXml(disk.target)}' snapshot='no'/>`);
      await context.libvirt.withOwnSession((own) =>
        own.snapshotDisks(
          domain,
          `<domainsnapshot><disks><disk name='${escapeXml(target)}' snapshot='external' type='file'><driver type='qcow2'/><source file='${escapeXml(path)}'/></disk>${others.join('')}</disks></domainsnapshot>`,
        ),
      );
    },
    async join(files) {
      const deadline = Date.now() + JOIN_TIMEOUT_MS;
      // An agent that was started anew finds libvirt still at it.
      if (!(await session.blockJob(domain, target)))
        try {
          await context.libvirt.withOwnSession((own) => own.blockCommit(domain, target, files));
        } catch (error) {
          if (!(error instanceof LibvirtError)) throw error;
          context.log('info', 'layers were not joined', { domain: id, volume: volumeId, reason: error.message });
          return false;
        }
      while (await session.blockJob(domain, target)) {
        if (Date.now() > deadline) {
          context.log('info', 'layers were not joined in time', { domain: id, volume: volumeId });
          await session.abortBlockJob(domain, target);
          break;
        }
        await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
      }
      return !(await chain()).includes(files.top);
    },
  };
}
