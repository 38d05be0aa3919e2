import { freeSegment } from '../../database/wires.ts';
import type { Segments } from '../../model/network/physicalNetwork.ts';
import { Problem } from '../../runtime/problem.ts';
import { type Accepting, type Hold, type Hooks, type Related, type Scene, tell } from '../change.ts';
import { invalid } from '../violation.ts';

/** What a network is on the wire. The database sees to it that no two are the same. */
async function segmentOf({ tx, input, row, references }: Accepting): Promise<number | null> {
  const { type, physicalNetworkId, segmentId } = row;
  const wire = references.get(`physicalNetwork/${String(physicalNetworkId)}`);
  if (type === 'overlay') {
    if (segmentId !== null) throw invalid('segmentId', 'is for vlan and flat: OVN numbers overlays itself');
    if (wire && wire.encapsulation !== 'geneve')
      throw invalid('physicalNetworkId', `is ${String(wire.encapsulation)}, and an overlay needs geneve`);
    return null;
  }
  if (!wire) throw invalid('physicalNetworkId', `is needed for ${String(type)}`);
  if (wire.encapsulation !== type)
    throw invalid('physicalNetworkId', `is ${String(wire.encapsulation)}, and the network ${String(type)}`);
  if (type === 'flat') {
    if (segmentId !== null && segmentId !== 0) throw invalid('segmentId', 'is for vlan: a flat network has no tag');
    return 0;
  }
  if (segmentId === null) {
    const free = await freeSegment(tx, wire.id);
    if (free === null)
      throw new Problem('ADDRESS_EXHAUSTED', `physical network ${wire.id} has no free segment left`, {
        violations: [{ field: 'physicalNetworkId', message: 'has no free segment left' }],
      });
    return free;
  }
  const ranges = wire.segmentRanges as Segments[];
  if (!ranges.some(({ from, to }) => from <= Number(input.segmentId) && Number(input.segmentId) <= to))
    throw invalid('segmentId', 'is in no range of the physical network');
  return Number(segmentId);
}

/** The policy that it carries now. It stays as long as its ports may have to go back to it. */
const carriedNow = ({ row }: Pick<Scene, 'row'>): string[] =>
  typeof row.firewallPolicyId === 'string' ? [row.firewallPolicyId] : [];

export const networkHooks: Hooks = {
  'network.create': {
    async accept(accepting) {
      const { row, input, references } = accepting;
      const wire = references.get(`physicalNetwork/${String(row.physicalNetworkId)}`);
      if (wire && wire.zoneId !== input.zoneId) throw invalid('physicalNetworkId', 'is in another zone');
      if (wire?.enabled === false) throw invalid('physicalNetworkId', 'takes no new networks');
      if (row.external === true && row.type === 'overlay')
        throw invalid('external', 'is for vlan and flat: an overlay leads nowhere outside');
      const vpc = references.get(`vpc/${String(row.vpcId)}`);
      if (vpc && vpc.zoneId !== input.zoneId) throw invalid('vpcId', 'is in another zone');
      if (vpc && row.external === true) throw invalid('external', 'is for networks that VPCs reach by an uplink');
      row.segmentId = await segmentOf(accepting);
      // Guests are told 1500: a wire that takes less would lose what is larger, and say nothing.
      if (wire && row.type !== 'overlay' && Number(wire.mtu) < Number(row.mtu))
        throw invalid(
          'physicalNetworkId',
          `takes packets of ${String(wire.mtu)} bytes, and guests send ${String(row.mtu)}`,
        );
    },
  },
  'network.setFirewallPolicy': {
    references: ({ firewallPolicyId: id }) =>
      typeof id === 'string' ? [{ kind: 'firewallPolicy', id, field: 'firewallPolicyId' }] : [],
    related: (scene): Related[] => carriedNow(scene).map((id) => ({ kind: 'firewallPolicy', id })),
    holds: (scene): Hold[] => carriedNow(scene).map((id) => ({ kind: 'firewallPolicy', id, mode: 'S' })),
    conditions: ({ row }) => [
      {
        field: 'firewallPolicyId',
        is: (row.firewallPolicyId ?? null) as string | null,
        code: 'INVALID_STATE',
        message: `network ${row.id} has come to another firewall policy meanwhile`,
      },
    ],
    accept(accepting) {
      const { row } = accepting;
      if (row.external === true)
        accepting.warnings.push(
          'it leads outside: no instance is plugged into it, so the policy decides nothing there',
        );
      tell(accepting, 'network.setFirewallPolicy', {
        formerFirewallPolicyId: (row.firewallPolicyId ?? null) as string | null,
      });
    },
  },
};
