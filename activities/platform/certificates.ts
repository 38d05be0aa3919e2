/** Hosts' certificates end; before they do, the hosts get the next ones, under their guests. */
import { acceptOwn } from '../../acceptance/own.ts';
import type { Database } from '../../database/database.ts';
import { from, isAmong, statement, type Values } from '../../database/statement.ts';
import { servingStates } from '../../model/platform/host.ts';
import { maintenance } from '../../model/platform/maintenance.ts';
import type { StartOperation } from '../../model/platform/operation.ts';
import type { Log } from '../../runtime/log.ts';
import { metrics, toldFor } from '../../runtime/metrics.ts';
import { hostsWithEndingCertificate } from './credentials.ts';

/** A host that was added with a thousand others is not renewed with all of them at once. */
const atOnce = 20;

const tell = toldFor(metrics.hostCertificatesEnding, 2 * maintenance.renewHostCertificates.everySeconds * 1_000);

/** libvirtd is started anew with another certificate: a guest must not be on its way then. */
const hostsAtWork = statement((p: Values<{ ids: string[] }>) =>
  from
    .selectFrom('host as h')
    .select((eb) => [
      'h.id',
      'h.connection',
      eb
        .exists(
          eb
            .selectFrom('hostClaim as c')
            .innerJoin('instance as i', 'i.id', 'c.instanceId')
            .select('i.id')
            .whereRef('c.hostId', '=', 'h.id')
            .where('i.currentOperationId', 'is not', null),
        )
        .as('busy'),
    ])
    .where((eb) => isAmong(eb.ref('h.id'), p.ids))
    .where('h.state', 'in', servingStates)
    .where('h.deletedAt', 'is', null)
    .where('h.deadAt', 'is', null)
    .where('h.fencedAt', 'is', null)
    .orderBy('h.id'),
);

/**
 * Connects hosts again whose certificate is in the last third of its life, which is how they get one. Who does not answer, or is at work
 * otherwise, has its turn another time. Answers how many there are, and the operations that do it now.
 */
export async function renewHostCertificates(
  database: Database,
  log: Log,
): Promise<{ ending: number; begun: StartOperation[] }> {
  const hosts = await hostsAtWork(database.connections, { ids: await hostsWithEndingCertificate(database) });
  const begun: StartOperation[] = [];
  for (const { id: hostId, connection, busy } of hosts) {
    if (connection !== 'connected') log.warn({ hostId }, 'the certificate of a host that does not answer ends soon');
    else if (!busy && begun.length < atOnce) {
      const outcome = await acceptOwn(database, 'host', 'connect', hostId, 'certificate', {
        leftToDispatcher: false,
      });
      if (outcome?.start) begun.push(outcome.start);
    }
  }
  tell(hosts.length);
  return { ending: hosts.length, begun };
}
