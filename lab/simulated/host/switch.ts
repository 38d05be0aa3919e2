import type * as protocol from '../../../host-agent/protocol/switch.ts';
import { refuse } from '../problem.ts';
import { type CallHandlers, nothing } from './host.ts';

/** A simulated machine has all bridges that are called so, and no others. */
const hasBridge = (name: string): boolean => name.startsWith('br-phy');

export const calls: CallHandlers<typeof protocol.calls> = {
  'switch.ensureConfigured'(host, configuration) {
    const other = host.world.network.chassisHost(configuration.systemId);
    if (other && other !== host)
      throw refuse('NAME_IN_USE', `${other.name} is already the chassis ${configuration.systemId}`);
    if (host.switch && host.switch.systemId !== configuration.systemId)
      host.world.network.chassisRenamed(host.switch.systemId);
    host.switch = configuration;
    host.world.network.chassisJoined(host);
    return nothing;
  },
  'switch.ensureUnconfigured'(host) {
    const { systemId } = host.switch ?? {};
    host.switch = null;
    host.mappings.clear();
    if (systemId !== undefined) host.world.network.chassisLeft(systemId);
    return nothing;
  },
  'switch.bridges': (_, { names }) => ({ bridges: names.filter(hasBridge) }),
  'switch.ensureMapping'(host, { physicalNetworkId, bridge }) {
    if (!hasBridge(bridge)) throw refuse('PRECONDITION_FAILED', `${host.name} has no bridge ${bridge}`);
    host.mappings.set(physicalNetworkId, bridge);
    return nothing;
  },
  'switch.ensureMappingAbsent'(host, { physicalNetworkId }) {
    host.mappings.delete(physicalNetworkId);
    return nothing;
  },
};
