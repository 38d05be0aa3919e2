import { takePublicAddress, waysOf } from '../../database/vpcs.ts';
import { columnsOf } from '../../model/columns.ts';
import { instantAt } from '../../model/forms.ts';
import { kindOf } from '../../model/kinds.ts';
import { contradictionsIn, type Route } from '../../model/network/routeTable.ts';
import type { Uplink } from '../../model/network/vpc.ts';
import { Problem } from '../../runtime/problem.ts';
import { placeOf } from '../caller.ts';
import {
  type Accepting,
  type Hold,
  type Hooks,
  type Loaded,
  type Reference,
  type Row,
  type Scene,
  tell,
} from '../change.ts';
import { loadedOf } from '../holds.ts';
import { invalid, refuseAll } from '../violation.ts';
import { covers, type Range, rangeOf } from './cidr.ts';

interface UplinkInput {
  networkId: string;
  address?: string | null;
  snat?: boolean;
  isDefault?: boolean;
}

/** @throws Problem INVALID_ARGUMENT for what is no network, or lies in another one */
function refuseRanges(cidrs: readonly string[]): void {
  const ranges: (Range | null)[] = cidrs.map(rangeOf);
  for (const [index, range] of ranges.entries()) {
    if (!range) throw invalid(`cidrs.${index}`, 'is no IPv4 network: the host part must be zero');
    const bits = Number(cidrs[index]?.split('/')[1]);
    if (bits < 8 || bits > 29) throw invalid(`cidrs.${index}`, 'must be between /8 and /29');
    const other = ranges.findIndex(
      (before, place) => before && place < index && before.first <= range.last && range.first <= before.last,
    );
    if (other >= 0) throw invalid(`cidrs.${index}`, `overlaps cidrs.${other}`);
  }
}

/** Whether the network leads outside of the VPC's zone. */
function refuseUplink(references: Loaded, networkId: string, zoneId: unknown, field: string): void {
  const network = references.get(`network/${networkId}`);
  if (network?.external !== true) throw invalid(field, 'leads nowhere outside');
  if (network.zoneId !== zoneId) throw invalid(field, 'is in another zone');
}

/** @throws Problem NOT_SUPPORTED where the router type has no SNAT */
function refuseSnat(type: Row | undefined, uplink: UplinkInput, field: string): void {
  if (uplink.snat !== false && type && !(type.services as string[]).includes('snat'))
    throw new Problem('NOT_SUPPORTED', 'the router type has no SNAT', {
      violations: [{ field, message: 'is not offered by the router type' }],
    });
}

async function accept({ tx, row, input, references, rows, makes, operationId }: Accepting): Promise<void> {
  refuseRanges(input.cidrs as string[]);
  const type = references.get(`routerType/${String(row.routerTypeId)}`);
  if (type?.enabled === false) throw invalid('routerTypeId', 'is not offered any more');
  const uplink = input.uplink as UplinkInput | null | undefined;
  if (uplink) {
    refuseUplink(references, uplink.networkId, row.zoneId, 'uplink.networkId');
    refuseSnat(type, uplink, 'uplink.snat');
    const id = crypto.randomUUID();
    const { networkId, address = null, snat = true, isDefault = true } = uplink;
    const taken = await takePublicAddress(tx, { networkId, ownerId: id, wanted: address, field: 'uplink.address' });
    Object.assign(row, {
      uplinks: [{ id, networkId, ...taken, snat, isDefault } satisfies Uplink],
      uplinkNetworkIds: [networkId],
      uplinkSubnetIds: [taken.subnetId],
      publicAddress: snat && isDefault ? taken.address : null,
    });
  }
  const now = instantAt();
  const values: Record<string, unknown> = {
    id: crypto.randomUUID(),
    projectId: row.projectId,
    name: 'main',
    vpcId: row.id,
    isMain: true,
    state: 'creating',
    currentOperationId: operationId,
    createdAt: now,
    updatedAt: now,
    revision: 1,
  };
  const main = Object.fromEntries(
    columnsOf(kindOf('routeTable')).map(({ name, default: implied }) => [name, values[name] ?? implied ?? null]),
  );
  rows.routeTable = [main];
  makes.push({ kind: 'routeTable', id: String(values.id), via: 'creating', to: 'ready' });
}

const mainTable = ({ row, loaded }: Scene): Hold[] =>
  loadedOf(loaded, 'routeTable').flatMap(({ id, vpcId, isMain }) =>
    vpcId === row.id && isMain ? [{ kind: 'routeTable', id, mode: 'D' as const, via: 'deleting', to: 'deleted' }] : [],
  );

const uplinkNetwork = ({ networkId }: Record<string, unknown>): Reference[] => [
  { kind: 'network', id: String(networkId), field: 'networkId' },
];

export const vpcHooks: Hooks = {
  'vpc.create': {
    references: ({ uplink }) => {
      const networkId = (uplink as UplinkInput | null | undefined)?.networkId;
      return networkId ? [{ kind: 'network', id: networkId, field: 'uplink.networkId' }] : [];
    },
    accept,
  },
  'vpc.setCidrs': {
    accept: ({ input }) => refuseRanges(input.cidrs as string[]),
  },
  'vpc.attachUplink': {
    references: uplinkNetwork,
    related: ({ row }) => (row.routerTypeId ? [{ kind: 'routerType', id: String(row.routerTypeId) }] : []),
    accept(accepting) {
      const { row, input, references } = accepting;
      refuseUplink(references, String(input.networkId), row.zoneId, 'networkId');
      refuseSnat(references.get(`routerType/${String(row.routerTypeId)}`), input as unknown as UplinkInput, 'snat');
      tell(accepting, 'vpc.attachUplink', { uplinkId: crypto.randomUUID() });
    },
  },
  'vpc.detachUplink': {
    accept({ row, input }) {
      if (!(row.uplinks as Uplink[]).some(({ id }) => id === input.uplinkId))
        throw invalid('uplinkId', 'is no uplink of the VPC');
    },
  },
  'vpc.changeType': {
    references: ({ routerTypeId }) =>
      typeof routerTypeId === 'string' ? [{ kind: 'routerType', id: routerTypeId, field: 'routerTypeId' }] : [],
    accept({ row, input, references }) {
      const routerTypeId = (input.routerTypeId as string | null | undefined) ?? null;
      if (routerTypeId === row.routerTypeId) throw invalid('routerTypeId', 'is what it is of already');
      if (references.get(`routerType/${String(routerTypeId)}`)?.enabled === false)
        throw invalid('routerTypeId', 'is not offered any more');
    },
  },
  'vpc.failOverGateway': {
    references: ({ hostId }) => (typeof hostId === 'string' ? [{ kind: 'host', id: hostId, field: 'hostId' }] : []),
  },
  'vpc.delete': {
    related: ({ row }) => [{ kind: 'routeTable', by: 'vpcId', id: row.id }],
    holds: mainTable,
  },
};

/** @throws Problem INVALID_ARGUMENT with all that can not be meant, or leads nowhere */
async function refuseRoutes({ tx }: Accepting, vpcId: string, routes: readonly Route[]): Promise<void> {
  const contradictions = contradictionsIn(routes);
  const ways = contradictions.length > 0 ? [] : await waysOf(tx, { vpcId });
  const unreachable =
    contradictions.length > 0
      ? []
      : routes.flatMap((route, index) => {
          const wrong = (field: string, message: string) => [{ index, field, message }];
          if (!rangeOf(route.cidr)) return wrong('cidr', 'is no IPv4 network: the host part must be zero');
          if (ways.some(({ cidr, inside }) => inside && covers(cidr, route.cidr)))
            return wrong('cidr', 'lies in a subnet of the VPC, where every packet finds its own way');
          const { nextHop } = route;
          if (nextHop === undefined) return [];
          if (ways.some(({ own }) => own === nextHop))
            return wrong('nextHop', 'is the router itself: packets would go round');
          return ways.some(({ cidr }) => covers(cidr, nextHop))
            ? []
            : wrong('nextHop', 'is in no subnet of the VPC, and at none of its uplinks');
        });
  refuseAll(
    [...contradictions, ...unreachable].map(({ index, field, message }) => ({
      field: `routes.${index}.${field}`,
      message,
    })),
  );
}

export const routeTableHooks: Hooks = {
  'routeTable.create': {
    permittedAt: (row, loaded) =>
      placeOf(kindOf('vpc'), loaded.get(`vpc/${String(row.vpcId)}`) ?? { id: String(row.vpcId) }),
    accept: (accepting) =>
      refuseRoutes(accepting, String(accepting.row.vpcId), (accepting.input.routes ?? []) as Route[]),
  },
  'routeTable.setRoutes': {
    accept: (accepting) => refuseRoutes(accepting, String(accepting.row.vpcId), accepting.input.routes as Route[]),
  },
  'routeTable.delete': {
    accept({ row, parentOperationId }) {
      if (row.isMain && parentOperationId === null)
        throw new Problem('PRECONDITION_FAILED', 'the main route table goes with its VPC, and not before');
    },
  },
};
