import { contradictionsIn, type Segments } from '../../model/network/physicalNetwork.ts';
import { Problem } from '../../runtime/problem.ts';
import type { Accepting, Hooks, Reference } from '../change.ts';
import { invalid, refuseAll } from '../violation.ts';

/** @throws Problem INVALID_ARGUMENT with all that can not be meant */
function refuseRanges(encapsulation: unknown, ranges: unknown): void {
  const segments = (ranges ?? []) as Segments[];
  if (segments.length > 0 && encapsulation !== 'vlan')
    throw invalid('segmentRanges', `is for vlan, and not for ${String(encapsulation)}`);
  refuseAll(
    contradictionsIn(segments).map(({ index, field, message }) => ({
      field: `segmentRanges.${index}.${field}`,
      message,
    })),
  );
}

function accept({ input, references }: Accepting): void {
  const { encapsulation, bridge } = input;
  if (encapsulation === 'geneve' && bridge)
    throw invalid('bridge', 'is for vlan and flat: geneve goes where the tunnels of hosts go');
  if (encapsulation !== 'geneve' && !bridge) throw invalid('bridge', `is needed for ${String(encapsulation)}`);
  if (bridge === 'br-int') throw invalid('bridge', 'is the bridge that instances are plugged into');
  refuseRanges(encapsulation, input.segmentRanges);
  for (const id of (input.clusterIds ?? []) as string[])
    if (references.get(`cluster/${id}`)?.zoneId !== input.zoneId)
      throw invalid('clusterIds', `cluster ${id} is in another zone`);
}

const cluster = ({ clusterId }: Record<string, unknown>): Reference[] => [
  { kind: 'cluster', id: String(clusterId), field: 'clusterId' },
];

export const physicalNetworkHooks: Hooks = {
  'physicalNetwork.create': { accept },
  'physicalNetwork.update': {
    accept({ row, input }) {
      if (input.segmentRanges !== undefined) refuseRanges(row.encapsulation, input.segmentRanges);
    },
  },
  'physicalNetwork.attachCluster': {
    references: cluster,
    accept({ row, input, references }) {
      const clusterId = String(input.clusterId);
      if (references.get(`cluster/${clusterId}`)?.zoneId !== row.zoneId)
        throw invalid('clusterId', 'is in another zone');
      if ((row.clusterIds as string[]).includes(clusterId))
        throw new Problem('ALREADY_ATTACHED', `cluster ${clusterId} is at physical network ${row.id} already`, {
          violations: [{ field: 'clusterId', message: 'is attached already' }],
        });
      if ((row.clusterIds as string[]).length >= 64) throw invalid('clusterId', 'would be the 65th: at most 64 fit');
    },
  },
  'physicalNetwork.detachCluster': {
    references: cluster,
    accept({ row, input }) {
      if (!(row.clusterIds as string[]).includes(String(input.clusterId)))
        throw invalid('clusterId', 'is not at this physical network');
    },
  },
};
