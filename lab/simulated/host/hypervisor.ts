import type * as protocol from '../../../host-agent/protocol/hypervisor.ts';
import { type CallHandlers, nothing } from './host.ts';

export const calls: CallHandlers<typeof protocol.calls> = {
  'hypervisor.ensureConfigured'(host, configuration) {
    host.hypervisor = configuration;
    return nothing;
  },
  'hypervisor.ensureUnconfigured'(host) {
    host.hypervisor = null;
    return nothing;
  },
};
