import { randomUUID } from 'node:crypto';
import type * as protocol from '../../../host-agent/protocol/boot.ts';
import { refuse } from '../problem.ts';
import { isActive } from './domainState.ts';
import { type CallHandlers, type Host, nothing } from './host.ts';
import { crash } from './power.ts';

/** From the order to the end of all that runs: the answer to the order is out by then. */
const goingDownMs = 20;

function goDown(host: Host): void {
  host.connection = 'crashed';
  host.world.cutAll(host);
  crash(host);
  setTimeout(() => {
    host.machineLife = randomUUID();
    host.connection = 'up';
    host.world.network.chassisJoined(host);
  }, host.world.settings.rebootMs);
}

export const calls: CallHandlers<typeof protocol.calls> = {
  'host.boot': ({ machineLife }) => ({ bootId: machineLife, canReboot: true }),
  'host.reboot'(host, { bootId }) {
    if (bootId !== host.machineLife) return nothing;
    const running = [...host.domains.values()].filter(isActive);
    if (running.length > 0) throw refuse('PRECONDITION_FAILED', `${running.length} guests run on this host`);
    setTimeout(() => goDown(host), goingDownMs);
    return nothing;
  },
};
