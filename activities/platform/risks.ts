/** What agrees with the records, and may go wrong all the same. */
import { askable, clock, fullPools, locationsGone, miscountedHosts, stuckOperations } from '../../database/audit.ts';
import { closeAt, type Sighting, seeAll } from '../../database/findings.ts';
import type { World } from '../world.ts';
import { hostsWithOverdueCertificate } from './credentials.ts';

const whats = ['operationStuck', 'poolPromised', 'hostMiscounted', 'certificateEnds'];

export async function scanRisks({ database }: World): Promise<{ differences: number }> {
  const client = database.connections;
  const [look] = await clock(client);
  const risk = (
    severity: Sighting['severity'],
    what: string,
    resourceKind: string,
    resourceId: string,
    [expected, actual]: [string, string],
  ): Sighting => ({ class: 'risk', severity, what, resourceKind, resourceId, system: 'record', expected, actual });
  const sightings: Sighting[] = [
    ...(await stuckOperations(client)).map(({ id, type, message }) =>
      risk('critical', 'operationStuck', 'operation', id, [
        'it ends by itself',
        `${type} waits for a person: ${message}. Try its step again, or skip it`.slice(0, 1024),
      ]),
    ),
    ...(await fullPools(client)).map(({ id, percent }) =>
      risk(percent >= 95 ? 'error' : 'warning', 'poolPromised', 'storagePool', id, [
        'room for more volumes',
        `${percent} % of what the pool may promise is promised. Add room, or volumes are refused`,
      ]),
    ),
    ...(await miscountedHosts(client)).map(({ id, counted, summed }) =>
      risk('error', 'hostMiscounted', 'host', id, [`${summed} are placed there`, `${counted} are counted`]),
    ),
  ];
  for (const { id } of await askable(client, { ids: await hostsWithOverdueCertificate(database) }))
    sightings.push(
      risk('error', 'certificateEnds', 'host', id, [
        'a certificate for migrations that lasts',
        'it ends soon and was not renewed: connect the host, and look why that fails',
      ]),
    );
  const since = look?.at ?? new Date();
  await seeAll(client, { system: 'record', location: null, what: whats, since }, sightings, []);
  // Nobody looks again where there is nothing to be looked at any more.
  await closeAt(
    client,
    (await locationsGone(client)).map(({ location }) => location),
  );
  return { differences: sightings.length };
}
