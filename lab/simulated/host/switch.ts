import type * as protocol from '../../../host-agent/protocol/switch.ts';
import { refuse } from '../problem.ts';
import { type CallHandlers, nothing } from './host.ts';

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
    if (systemId !== undefined) host.world.network.chassisLeft(systemId);
    return nothing;
  },
};
