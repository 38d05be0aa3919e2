import { BEAT_SECONDS, type HostEvent } from '../../../host-agent/protocol.ts';
import type { Host } from './host.ts';

export function publish(host: Host, type: HostEvent['type'], domainId: string, reason: string): void {
  host.sequence += 1;
  if (host.listeners.size === 0) return;
  const { bootId, sequence } = host;
  const event: HostEvent = { bootId, sequence, at: new Date().toISOString(), type, domainId, reason };
  for (const listener of host.listeners) listener(event);
}

export function hello(host: Host): HostEvent {
  return {
    bootId: host.bootId,
    sequence: host.sequence,
    at: new Date().toISOString(),
    type: 'hello',
    beatSeconds: BEAT_SECONDS,
    domains: [...host.domains.values()].map(({ spec, state, reason }) => ({ id: spec.id, state, reason })),
  };
}
