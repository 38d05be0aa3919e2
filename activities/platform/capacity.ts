/** The report of a zone's capacity: what the records know, and what follows from that; nothing is guessed. */
import { acceptOwn } from '../../acceptance/own.ts';
import {
  addressCapacity,
  clusterCapacity,
  fullestHosts,
  livingZone,
  livingZones,
  poolCapacity,
  reportBefore,
} from '../../database/capacity.ts';
import type { Database } from '../../database/database.ts';
import { instantAt } from '../../model/forms.ts';
import type { StartOperation } from '../../model/platform/operation.ts';
import { refuse } from '../failure.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';

/** A total, what of it is promised, and how long the rest lasts at the pace of the reports before. */
export interface Amount {
  total: number;
  used: number;
  free: number;
  /** Null where there is no pace: too little history, or it does not grow. */
  daysUntilFull: number | null;
}

export interface CapacityReport {
  zoneId: string;
  zoneName: string;
  at: string;
  vcpus: Amount;
  memoryMib: Amount;
  storageGib: Amount;
  addresses: Amount & { subnets: number; nearlyFull: number };
  clusters: {
    clusterId: string;
    clusterName: string;
    hosts: number;
    closedHosts: number;
    vcpus: { total: number; used: number; free: number; reserved: number };
    memoryMib: { total: number; used: number; free: number; reserved: number };
    /** What it would mean if the host failed on which most is promised. */
    largestLoss: {
      hostId: string;
      hostName: string;
      instances: number;
      vcpus: number;
      memoryMib: number;
      /** Whether the other hosts have that much room in all, with what they keep for it. */
      fitsElsewhere: boolean;
    } | null;
  }[];
  pools: {
    poolId: string;
    poolName: string;
    storageClass: string;
    promisableGib: number;
    promisedGib: number;
    freeGib: number;
  }[];
  /** Since when the pace is known; null where this is the first report. */
  comparedWith: string | null;
}

/** Reports of so many days say how fast things grow; of less than one day of history nothing is concluded. */
const historyDays = 30;
const leastHistoryMs = 86_400_000;

type Totals = Pick<CapacityReport, 'vcpus' | 'memoryMib' | 'storageGib' | 'addresses'>;

const rounded = (value: number): number => Math.round(value * 10) / 10;

/** Days until nothing is free, if it goes on as it did between both reports. */
export function daysUntilFull(
  now: { used: number; free: number },
  before: { used: number } | undefined,
  betweenMs: number,
): number | null {
  if (!before || betweenMs < leastHistoryMs) return null;
  const perDay = ((now.used - before.used) / betweenMs) * 86_400_000;
  return perDay > 0 ? Math.max(0, Math.floor(now.free / perDay)) : null;
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

async function measure(database: Database, zoneId: string): Promise<CapacityReport> {
  const on = database.connections;
  const [zone] = await livingZone(on, { zoneId });
  if (!zone) throw refuse('NOT_FOUND', `there is no zone ${zoneId}`);
  const [clusters, fullest, pools, [addresses], [earlier]] = await Promise.all([
    clusterCapacity(on, { zoneId }),
    fullestHosts(on, { zoneId }),
    poolCapacity(on, { zoneId }),
    addressCapacity(on, { zoneId }),
    reportBefore(on, { zoneId, days: historyDays }),
  ]);
  const at = instantAt();
  const before = (earlier?.result ?? null) as CapacityReport | null;
  const betweenMs = before ? Date.parse(at) - Date.parse(before.at) : 0;
  const amount = (name: keyof Totals, total: number, used: number): Amount => {
    const free = Math.max(0, total - used);
    return {
      total: rounded(total),
      used: rounded(used),
      free: rounded(free),
      daysUntilFull: daysUntilFull({ used, free }, before?.[name], betweenMs),
    };
  };
  return {
    zoneId,
    zoneName: zone.name,
    at,
    vcpus: amount('vcpus', sum(clusters.map((one) => one.vcpus)), sum(clusters.map((one) => one.claimedVcpus))),
    memoryMib: amount(
      'memoryMib',
      sum(clusters.map((one) => one.memoryMib)),
      sum(clusters.map((one) => one.claimedMemoryMib)),
    ),
    storageGib: amount(
      'storageGib',
      sum(pools.map((one) => one.promisableGib)),
      sum(pools.map((one) => one.promisedGib)),
    ),
    addresses: {
      ...amount('addresses', addresses?.addresses ?? 0, addresses?.used ?? 0),
      subnets: addresses?.subnets ?? 0,
      nearlyFull: addresses?.nearlyFull ?? 0,
    },
    clusters: clusters.map((one) => {
      const host = fullest.find(({ clusterId }) => clusterId === one.clusterId);
      const freeVcpus = one.vcpus - one.claimedVcpus;
      const freeMemoryMib = one.memoryMib - one.claimedMemoryMib;
      return {
        clusterId: one.clusterId,
        clusterName: one.clusterName,
        hosts: one.hosts,
        closedHosts: one.closed,
        vcpus: { total: one.vcpus, used: one.claimedVcpus, free: freeVcpus, reserved: one.reservedVcpus },
        memoryMib: {
          total: one.memoryMib,
          used: one.claimedMemoryMib,
          free: freeMemoryMib,
          reserved: one.reservedMemoryMib,
        },
        largestLoss: host
          ? {
              hostId: host.hostId,
              hostName: host.hostName,
              instances: host.instances,
              vcpus: host.claimedVcpus,
              memoryMib: host.claimedMemoryMib,
              // Its own free room goes with it.
              fitsElsewhere:
                freeVcpus - (host.vcpus - host.claimedVcpus) >= host.claimedVcpus &&
                freeMemoryMib - (host.memoryMib - host.claimedMemoryMib) >= host.claimedMemoryMib,
            }
          : null,
      };
    }),
    pools: pools.map(({ poolId, poolName, storageClass, promisableGib, promisedGib }) => ({
      poolId,
      poolName,
      storageClass,
      promisableGib: rounded(promisableGib),
      promisedGib: rounded(promisedGib),
      freeGib: rounded(Math.max(0, promisableGib - promisedGib)),
    })),
    comparedWith: before?.at ?? null,
  };
}

export const zones = ({ database }: World) => ({
  measureCapacity: step({
    system: 'record',
    do: ({ zoneId }: { zoneId: string }): Promise<CapacityReport> => measure(database, zoneId),
  }),
});

/** Begins the report of each zone. */
export async function reportCapacities(database: Database): Promise<{ begun: StartOperation[] }> {
  const begun: StartOperation[] = [];
  for (const { id } of await livingZones(database.connections)) {
    const outcome = await acceptOwn(database, 'zone', 'reportCapacity', id, 'capacity', { leftToDispatcher: false });
    if (outcome?.start) begun.push(outcome.start);
  }
  return { begun };
}
