import { takeAddress } from '../../database/addresses.ts';
import { placedInstance } from '../../database/claims.ts';
import { portsGoingWith } from '../../database/networks.ts';
import {
  findHost,
  findPlace,
  imagesOf,
  poolsOf,
  reachOf,
  runningHosts,
  type VolumeNeed,
} from '../../database/placement.ts';
import { from, isAmong, statement, type ValueOf, type Values } from '../../database/statement.ts';
import { columnsOf } from '../../model/columns.ts';
import type { instance } from '../../model/compute/instance.ts';
import { instantAt } from '../../model/forms.ts';
import { type CreateInput, maxNameLength } from '../../model/kind.ts';
import { kindOf, kinds } from '../../model/kinds.ts';
import {
  type Accepting,
  type Hold,
  type Hooks,
  type Reference,
  type Related,
  type Row,
  type Scene,
  tell,
} from '../change.ts';
import { loadedOf, unprotected } from '../holds.ts';
import {
  newMac,
  refuseOtherZone,
  refusePublic,
  refuseSix,
  refuseUnusable,
  takeSix,
} from '../network/networkInterface.ts';
import { waysHeld } from '../network/waysIn.ts';
import { enforce } from '../quota.ts';
import { onlyPoolOf, poolsOfInstanceMustBeAble } from '../storage/ability.ts';
import { typeAllows, typeIsOffered } from '../storage/size.ts';
import { invalid } from '../violation.ts';

type Create = CreateInput<typeof instance>;

function references(input: Record<string, unknown>): Reference[] {
  const { source, rootVolume, dataVolumes, networkInterfaces } = input as Create;
  const found: Reference[] = [];
  const add = (kind: string, id: string | null | undefined, field: string): void => {
    if (id) found.push({ kind, id, field });
  };
  add('image', source.imageId, 'source.imageId');
  add('snapshot', source.snapshotId, 'source.snapshotId');
  add('volumeType', rootVolume?.volumeTypeId, 'rootVolume.volumeTypeId');
  for (const [index, data] of (dataVolumes ?? []).entries())
    add('volumeType', data.volumeTypeId, `dataVolumes.${index}.volumeTypeId`);
  for (const [index, nic] of networkInterfaces.entries()) {
    add('subnet', nic.subnetId, `networkInterfaces.${index}.subnetId`);
    add('subnet', nic.subnet6Id, `networkInterfaces.${index}.subnet6Id`);
    for (const id of nic.securityGroupIds ?? [])
      add('securityGroup', id, `networkInterfaces.${index}.securityGroupIds`);
  }
  return found;
}

/** A host name from a display name: what DNS labels allow (RFC 1123). */
export const hostnameFrom = (name: string, id: string): string =>
  name
    .toLowerCase()
    .replace(/[^a-z0-9-]+/g, '-')
    .replace(/^-+/, '')
    .slice(0, 63)
    .replace(/-+$/, '') || `i-${id.slice(0, 8)}`;

/** A name made from another: cut where both together would be longer than a name may be, and never through a character. */
export const nameWith = (name: string, ending: string): string =>
  `${[...name].slice(0, maxNameLength - ending.length).join('')}${ending}`;

function blank(kindName: keyof typeof kinds, accepting: Accepting, values: Record<string, unknown>): Row {
  const now = instantAt();
  const base: Record<string, unknown> = {
    projectId: accepting.row.projectId,
    description: '',
    labels: {},
    systemLabels: {},
    createdAt: now,
    updatedAt: now,
    revision: 1,
    state: 'creating',
    currentOperationId: accepting.operationId,
    ...values,
  };
  const row: Record<string, unknown> = {};
  for (const column of columnsOf(kinds[kindName] as never))
    row[column.name] = base[column.name] ?? column.default ?? null;
  return row as Row;
}

async function accept(accepting: Accepting): Promise<void> {
  const { row, references: loaded, tx } = accepting;
  const input = accepting.input as Create;
  const sources = [input.source.imageId, input.source.volumeId, input.source.snapshotId].filter(Boolean);
  if (sources.length !== 1) throw invalid('source', 'names exactly one of imageId, volumeId, snapshotId');
  if (input.source.volumeId)
    throw invalid('source.volumeId', 'is not offered yet: make the instance from an image or a snapshot');
  const type = loaded.get(`instanceType/${input.instanceTypeId}`);
  if (type?.enabled === false) throw invalid('instanceTypeId', 'is not offered any more');
  const image = input.source.imageId ? loaded.get(`image/${input.source.imageId}`) : undefined;
  const snapshot = input.source.snapshotId ? loaded.get(`snapshot/${input.source.snapshotId}`) : undefined;
  const source = image ?? snapshot;
  if (image?.enabled === false) throw invalid('source.imageId', 'is not offered any more');
  if (source && source.zoneId !== input.zoneId) throw invalid('source', 'is in another zone');
  if (image?.minMemoryMib && Number(type?.memoryMib) < Number(image.minMemoryMib))
    throw invalid(
      'instanceTypeId',
      `has ${String(type?.memoryMib)} MiB; the image needs ${String(image.minMemoryMib)}`,
    );

  const volumeTypeId = input.rootVolume?.volumeTypeId ?? (type?.rootVolumeTypeId as string | null);
  if (!volumeTypeId) throw invalid('rootVolume.volumeTypeId', 'is needed: the instance type names none');
  const leastGib = Number(image?.minSizeGib ?? snapshot?.sizeGib ?? 1);
  const sizeGib = input.rootVolume?.sizeGib ?? Math.max(Number(type?.rootSizeGib ?? 0), leastGib);
  if (sizeGib < leastGib) throw invalid('rootVolume.sizeGib', `must be at least ${leastGib}, the size of its source`);

  const volumes = [
    {
      name: nameWith(input.name, ' root'),
      sizeGib,
      volumeTypeId,
      role: 'root',
      source: image ? { imageId: image.id } : { snapshotId: snapshot?.id },
      architecture: source?.architecture ?? null,
    },
    ...(input.dataVolumes ?? []).map((data, index) => ({
      name: data.name ?? nameWith(input.name, ` data ${index + 1}`),
      sizeGib: data.sizeGib,
      volumeTypeId: data.volumeTypeId ?? volumeTypeId,
      role: 'data',
      source: null,
      architecture: null,
    })),
  ].map((values, index) =>
    blank('volume', accepting, {
      ...values,
      id: crypto.randomUUID(),
      zoneId: input.zoneId,
      instanceId: row.id,
      deviceIndex: index,
    }),
  );

  const types = await volumeTypesOf(accepting, volumes);
  for (const [index, volume] of volumes.entries()) {
    const at = index === 0 ? 'rootVolume' : `dataVolumes.${index - 1}`;
    const wanted = types.get(String(volume.volumeTypeId));
    typeIsOffered(wanted, `${at}.volumeTypeId`);
    typeAllows(wanted, Number(volume.sizeGib), `${at}.sizeGib`);
  }

  const storageClass = types.get(volumeTypeId)?.storageClass;
  const onlyPoolId = await onlyPoolOf(tx, snapshot, storageClass, 'rootVolume.volumeTypeId');

  const interfaces: Row[] = [];
  for (const [index, wanted] of input.networkInterfaces.entries()) {
    const subnet = loaded.get(`subnet/${wanted.subnetId}`);
    const at = `networkInterfaces.${index}`;
    refuseOtherZone(loaded, wanted.securityGroupIds ?? [], input.zoneId, `${at}.securityGroupIds`);
    if (subnet?.zoneId !== input.zoneId) throw invalid(`${at}.subnetId`, 'is in another zone');
    refusePublic(subnet, `${at}.subnetId`);
    refuseSix(subnet, `${at}.subnetId`);
    const [id, mac] = [crypto.randomUUID(), newMac()];
    refuseUnusable(subnet, wanted.address, `${at}.address`, mac);
    const subnet6 = wanted.subnet6Id ? loaded.get(`subnet/${wanted.subnet6Id}`) : undefined;
    const address = await takeAddress(tx, wanted.subnetId, id, wanted.address ?? null, `${at}.address`);
    interfaces.push(
      blank('networkInterface', accepting, {
        id,
        name: nameWith(input.name, ` ${index}`),
        instanceId: row.id,
        networkId: subnet?.networkId,
        vpcId: subnet?.vpcId ?? null,
        subnetId: subnet?.id,
        zoneId: input.zoneId,
        mac,
        address,
        subnet6Id: subnet6?.id ?? null,
        address6: await takeSix(tx, { subnet, subnet6, address6: wanted.address6 ?? null, id, mac }, `${at}.`),
        index,
        securityGroupIds: wanted.securityGroupIds ?? [],
      }),
    );
  }

  keepUserData(accepting);
  const startOnCreate = input.startOnCreate !== false;
  Object.assign(row, {
    vcpus: type?.vcpus,
    memoryMib: type?.memoryMib,
    rootVolumeId: volumes[0]?.id,
    guestHostname: input.guestHostname ?? hostnameFrom(input.name, row.id),
    architecture: source?.architecture ?? null,
    firmware: input.firmware ?? image?.firmware ?? 'bios',
    keepRootVolume: input.rootVolume?.keepOnDelete ?? false,
    desiredPower: startOnCreate ? 'on' : 'off',
  });
  accepting.rows.volume = volumes;
  accepting.rows.networkInterface = interfaces;
  const fresh = { via: 'creating', to: 'ready' };
  accepting.makes.push(
    ...volumes.map(({ id }) => ({ kind: 'volume', id, ...fresh })),
    ...interfaces.map(({ id }) => ({ kind: 'networkInterface', id, ...fresh })),
  );
  tell(accepting, 'instance.create', { requestedHostId: input.requestedHostId ?? null, startOnCreate });
  // What fits nowhere is refused at once; what fits now is placed when its turn comes, and may find the room taken.
  accepting.placement = await findPlace(
    tx,
    {
      zoneId: input.zoneId,
      vcpus: Number(type?.vcpus),
      memoryMib: Number(type?.memoryMib),
      architecture: (source?.architecture as ValueOf<'cluster', 'architecture'> | undefined) ?? null,
      physicalNetworkIds: input.networkInterfaces.flatMap(({ subnetId }) => {
        const wire = loaded.get(`subnet/${subnetId}`)?.physicalNetworkId;
        return typeof wire === 'string' ? [wire] : [];
      }),
    },
    needsOf(volumes, types).map((need, index) => (index === 0 ? { ...need, onlyPoolId } : need)),
    input.requestedHostId ?? null,
  );
  accepting.to = startOnCreate ? 'running' : 'stopped';
}

/** Bytes are kept as base64 without line breaks. Throws INVALID_ARGUMENT for what is none. */
export function bytesOf(base64: string): string {
  const written = base64.replace(/[ \t\r\n]/g, '');
  const kept = Buffer.from(written, 'base64').toString('base64');
  if (written !== kept && written !== kept.replace(/=+$/, '')) throw invalid('userData', 'is not in base64');
  return kept;
}

function keepUserData({ input, row }: Accepting): void {
  if (input.userData == null) {
    if (input.userDataEncoding != null) throw invalid('userDataEncoding', 'needs userData beside it');
    return;
  }
  if (row.userDataEncoding === 'base64') input.userData = bytesOf(String(input.userData));
}

const typesById = statement((p: Values<{ ids: string[] }>) =>
  from
    .selectFrom('volumeType')
    .selectAll()
    .where((eb) => isAmong(eb.ref('id'), p.ids)),
);

/** The types of volumes about to be made, by id. */
async function volumeTypesOf({ tx, references: loaded }: Accepting, volumes: Row[]): Promise<Map<string, Row>> {
  const ids = [...new Set(volumes.map(({ volumeTypeId }) => String(volumeTypeId)))];
  const named = ids.flatMap((id) => loaded.get(`volumeType/${id}`) ?? []);
  // An instance type's own volume type is not named by the request.
  const types = named.length === ids.length ? named : await typesById(tx, { ids });
  return new Map(types.map((type) => [type.id, type]));
}

/** What volumes about to be made ask of pools. */
const needsOf = (volumes: Row[], types: Map<string, Row>): VolumeNeed[] =>
  volumes.map(({ id, sizeGib, volumeTypeId, source }) => ({
    id,
    sizeGib: Number(sizeGib),
    poolId: null,
    storageClass: String(types.get(String(volumeTypeId))?.storageClass ?? ''),
    imageId: (source as { imageId?: string } | null)?.imageId ?? null,
  }));

const clusterOf = statement((p: Values<{ hostId: string }>) =>
  from.selectFrom('host').select('clusterId').where('id', '=', p.hostId),
);

/** Another host of the same cluster; of what does not run, or is busy, nothing can be said yet. */
async function findMove({ tx, row, input }: Accepting): Promise<Accepting['placement']> {
  if (row.state !== 'running' || row.currentOperationId || !row.hostId) return null;
  const [home] = await clusterOf(tx, { hostId: String(row.hostId) });
  const need = { zoneId: String(row.zoneId), vcpus: Number(row.vcpus), memoryMib: Number(row.memoryMib) };
  const only = typeof input.hostId === 'string' ? input.hostId : null;
  const clusterIds = home ? [home.clusterId] : [];
  const { hostId } = await findHost(tx, need, { clusterIds, hostIds: [], only, except: String(row.hostId) });
  return { hostId, pools: [] };
}

const relatedParts = ({ row: { id } }: Scene): Related[] => [
  { kind: 'volume', by: 'instanceId', id },
  { kind: 'networkInterface', by: 'instanceId', id },
];

/** The disks and ports of an instance, held with it; `states` says what becomes of each kind. */
function parts(
  { row, loaded }: Scene,
  states: { root?: Partial<Hold>; data?: Partial<Hold>; port?: Partial<Hold>; alone?: Partial<Hold> },
): Hold[] {
  const own = (kind: string): Row[] => loadedOf(loaded, kind).filter(({ instanceId }) => instanceId === row.id);
  const goes = new Set<unknown>(['destroyed', 'expunged']);
  const held = (kind: string, { id }: Row, wanted: Partial<Hold> | undefined): Hold[] =>
    wanted
      ? [{ kind, id, mode: 'X', ...wanted, conditions: goes.has(wanted.to) ? unprotected(kindOf(kind), id) : [] }]
      : [];
  return [
    ...own('volume').flatMap((volume) => held('volume', volume, volume.role === 'root' ? states.root : states.data)),
    // One made alone is only let go of.
    ...own('networkInterface').flatMap((port) =>
      held('networkInterface', port, port.alone ? states.alone : states.port),
    ),
  ];
}

/** An instance that is lost has no place; whether there is one now is asked at once. One that has just lost its host is lost in any case. */
async function findAnew({ tx, row }: Accepting): Promise<Accepting['placement']> {
  if (row.state !== 'lost' || row.currentOperationId) return null;
  const [need] = await placedInstance(tx, { instanceId: row.id });
  if (!need) return null;
  const reach = reachOf(await poolsOf(tx, need.zoneId, imagesOf(need.volumes)), need.volumes);
  const eligible = {
    ...(await runningHosts(tx, need, reach)),
    only: null,
    except: null,
    avoid: need.failedHostIds,
    fromReserve: true,
  };
  return { hostId: (await findHost(tx, need, eligible)).hostId, pools: [] };
}

const fenceOf = statement((p: Values<{ hostId: string }>) =>
  from.selectFrom('host').select('fencedAt').where('id', '=', p.hostId),
);

/** A part of a failover is begun for nothing else. */
async function warnOfLivingHost({ tx, row, warnings, parentOperationId }: Accepting): Promise<void> {
  if (parentOperationId !== null || row.state !== 'running' || !row.hostId) return;
  const [host] = await fenceOf(tx, { hostId: String(row.hostId) });
  if (!host?.fencedAt) warnings.push(`it would fail now: the host of instance ${row.id} has not failed`);
}

const gone = { via: 'deleting', to: 'deleted' };

export const instanceHooks: Hooks = {
  'instance.create': { references, accept },
  'instance.migrate': {
    references: (input) =>
      typeof input.hostId === 'string' ? [{ kind: 'host', id: input.hostId, field: 'hostId' }] : [],
    async accept(accepting) {
      const { hostId } = accepting.input;
      if (hostId && hostId === accepting.row.hostId) throw invalid('hostId', 'is where the instance already runs');
      await poolsOfInstanceMustBeAble(accepting.tx, accepting.row.id, 'liveMove');
      accepting.placement = await findMove(accepting);
    },
  },
  'instance.start': {
    conditions: ({ row }) => [
      {
        field: 'hostId',
        is: null,
        code: 'PRECONDITION_FAILED',
        message: `instance ${row.id} may still run on the host that has failed`,
      },
    ],
  },
  'instance.restartElsewhere': {
    async accept(accepting) {
      await warnOfLivingHost(accepting);
      accepting.placement = await findAnew(accepting);
    },
  },
  'instance.delete': {
    related: relatedParts,
    holds: (scene) =>
      parts(
        scene,
        scene.row.keepRootVolume
          ? { data: {}, port: {}, alone: {} }
          : { root: { via: 'destroying', to: 'destroyed' }, data: {}, port: {}, alone: {} },
      ),
    async foresee(tx, _caller, { row }) {
      const ports = await portsGoingWith(tx, { instanceId: row.id });
      return waysHeld(
        tx,
        ports.map(({ id }) => id),
      );
    },
  },
  'instance.recover': {
    related: relatedParts,
    holds: (scene) => parts(scene, { root: scene.row.keepRootVolume ? {} : { via: 'recovering', to: 'ready' } }),
    async accept(accepting) {
      const { row } = accepting;
      const wanted = { vcpus: Number(row.vcpus), memoryMib: Number(row.memoryMib) };
      await enforce(accepting, { projectId: String(row.projectId) }, wanted, { recorded: false });
    },
  },
  'instance.expunge': {
    related: relatedParts,
    holds: (scene) =>
      parts(scene, {
        root: scene.row.keepRootVolume ? {} : { via: 'expunging', to: 'expunged' },
        data: {},
        port: gone,
      }),
  },
};
