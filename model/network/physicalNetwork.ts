import { type Static, Type } from 'typebox';
import { pattern } from '../forms.ts';
import { boolean, choice, field, integer, json, kind, object, ref, refs, Uuid } from '../kind.ts';

/** What a network is told apart by on the wire: of vlan the tag (IEEE 802.1Q), of geneve its own number, of flat nothing. */
export const encapsulations = ['geneve', 'vlan', 'flat'] as const;
export type Encapsulation = (typeof encapsulations)[number];

/** Tag 0 says that a frame has no VLAN, and 4095 is reserved (IEEE 802.1Q). */
const tag = Type.Integer({ minimum: 1, maximum: 4094 });

export const SegmentRange = object({ from: tag, to: { ...tag, description: 'The last one, at least from' } });
export type Segments = Static<typeof SegmentRange>;

/** Bridge names are interface names of Linux, of at most 15 characters. */
const bridgeName = pattern(
  '^[A-Za-z][A-Za-z0-9_.-]{0,14}$',
  'must have 1 to 15 letters, digits, dots, underscores or hyphens, and begin with a letter',
);

/** What of the ranges can not be meant. */
export function contradictionsIn(
  ranges: readonly Segments[],
): { index: number; field: 'from' | 'to'; message: string }[] {
  return ranges.flatMap(({ from, to }, index): { index: number; field: 'from' | 'to'; message: string }[] => {
    if (to < from) return [{ index, field: 'to', message: `must be at least from, which is ${from}` }];
    const other = ranges.findIndex((before, place) => place < index && before.from <= to && from <= before.to);
    return other < 0 ? [] : [{ index, field: 'from', message: `overlaps segmentRanges.${other}` }];
  });
}

const onHosts = [
  'physicalNetworks.locate',
  { name: 'physicalNetworks.checkHost', when: 'once per connected host, unless it is geneve' },
  { name: 'physicalNetworks.mapHost', when: 'once per connected host, unless it is geneve' },
] as const;

/** A wire that networks are on. */
export const physicalNetwork = kind({
  name: 'physicalNetwork',
  plural: 'physical-networks',
  area: 'network',
  scope: 'platform',
  summary: 'A wire below networks, and how they are told apart on it',
  fields: {
    zoneId: ref('zone', 'create!'),
    clusterIds: refs('cluster', 'create', { description: 'Clusters whose hosts are at this wire' }),
    encapsulation: choice(encapsulations, 'create!'),
    bridge: field(Type.String({ pattern: bridgeName }), 'create', {
      description: 'The bridge of Open vSwitch that leads to the wire, on every host; needed for vlan and flat',
    }),
    segmentRanges: json(Type.Array(SegmentRange, { maxItems: 64 }), 'patch', {
      default: [],
      description: 'VLAN tags that networks may have; what is in use stays',
    }),
    mtu: integer(1280, 9216, 'create', { default: 1500, description: 'The largest packet that the wire takes' }),
    enabled: boolean('patch', { default: true, description: 'false: it takes no new networks' }),
  },
  states: ['creating', 'ready', 'updating', 'deleting', 'failed'],
  unique: [
    { fields: ['zoneId', 'name'], code: 'NAME_IN_USE' },
    { fields: ['zoneId', 'bridge'], code: 'NAME_IN_USE' },
  ],
  actions: {
    create: {
      summary: 'Tell of a wire, and lead the hosts of its clusters to it',
      mode: 'operation',
      operatorOnly: true,
      via: 'creating',
      to: 'ready',
      cancellable: true,
      steps: [...onHosts],
    },
    update: { summary: 'Change name, ranges, and whether it takes new networks', mode: 'sync', operatorOnly: true },
    attachCluster: {
      summary: 'Lead the hosts of a further cluster to it',
      happened: 'clusterAttached',
      mode: 'operation',
      operatorOnly: true,
      from: ['ready'],
      via: 'updating',
      to: 'ready',
      cancellable: true,
      input: object({ clusterId: Uuid }),
      steps: [...onHosts, 'physicalNetworks.addCluster'],
    },
    detachCluster: {
      summary: 'Take it from the hosts of a cluster that has nothing on it',
      happened: 'clusterDetached',
      mode: 'operation',
      operatorOnly: true,
      from: ['ready'],
      via: 'updating',
      to: 'ready',
      cancellable: true,
      input: object({ clusterId: Uuid }),
      steps: [
        'physicalNetworks.locate',
        'physicalNetworks.dropCluster',
        { name: 'physicalNetworks.unmapHost', when: 'once per connected host, unless it is geneve' },
      ],
    },
    repair: {
      summary: 'Lead all connected hosts of its clusters to it anew',
      happened: 'repaired',
      mode: 'operation',
      operatorOnly: true,
      from: ['ready'],
      to: 'ready',
      pointOfNoReturn: 'physicalNetworks.mapHost',
      steps: [
        'physicalNetworks.locate',
        { name: 'physicalNetworks.mapHost', when: 'once per connected host, unless it is geneve' },
      ],
    },
    delete: {
      summary: 'Take a wire without networks from the hosts',
      mode: 'operation',
      operatorOnly: true,
      lock: 'D',
      from: ['ready'],
      via: 'deleting',
      to: 'deleted',
      cancellable: true,
      steps: [
        'physicalNetworks.locate',
        { name: 'physicalNetworks.unmapHost', when: 'once per connected host, unless it is geneve' },
      ],
    },
  },
});
