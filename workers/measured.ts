/** What hosts and their guests use, as Prometheus is told. */
import type { HostMetrics } from '../host-agent/protocol.ts';
import { metrics, tellWhenAsked } from '../runtime/metrics.ts';

type Guest = HostMetrics['domains'][number];

interface Measured {
  of: { host: string };
  host: HostMetrics;
  guests: { of: { instance_id: string; project: string; host: string }; guest: Guest }[];
}

/** What was measured last, by host. */
const last = new Map<string, Measured>();

function tellOfHosts(gauge: Parameters<typeof tellWhenAsked>[0], value: (host: HostMetrics) => number): void {
  tellWhenAsked(gauge, () => [...last.values()].map(({ of, host }) => ({ labels: of, value: value(host) })));
}

function tellOfGuests(gauge: Parameters<typeof tellWhenAsked>[0], value: (guest: Guest) => number): void {
  tellWhenAsked(gauge, () =>
    [...last.values()].flatMap(({ guests }) => guests.map(({ of, guest }) => ({ labels: of, value: value(guest) }))),
  );
}

tellOfHosts(metrics.hostCpu, ({ cpuSeconds }) => cpuSeconds);
tellOfHosts(metrics.hostMemoryAvailable, ({ memoryAvailableBytes }) => memoryAvailableBytes);
tellOfHosts(metrics.hostMemoryTotal, ({ memoryTotalBytes }) => memoryTotalBytes);
tellOfHosts(metrics.hostReceived, ({ networkReceivedBytes }) => networkReceivedBytes);
tellOfHosts(metrics.hostSent, ({ networkSentBytes }) => networkSentBytes);
tellOfGuests(metrics.instanceCpu, ({ cpuSeconds }) => cpuSeconds);
tellOfGuests(metrics.instanceMemory, ({ memoryBytes }) => memoryBytes);
tellOfGuests(metrics.instanceRead, ({ readBytes }) => readBytes);
tellOfGuests(metrics.instanceWritten, ({ writtenBytes }) => writtenBytes);
tellOfGuests(metrics.instanceReceived, ({ receivedBytes }) => receivedBytes);
tellOfGuests(metrics.instanceSent, ({ sentBytes }) => sentBytes);

/** Of all but these, which were measured, nothing is told any more. */
export function forgetAllBut(hostIds: ReadonlySet<string>): void {
  for (const hostId of last.keys()) if (!hostIds.has(hostId)) last.delete(hostId);
}

/** `projects` are those of instances. */
export function recordMeasured(hostId: string, host: HostMetrics, projects: ReadonlyMap<string, string>): void {
  last.set(hostId, {
    of: { host: hostId },
    host,
    guests: host.domains.map((guest) => ({
      of: { instance_id: guest.id, project: projects.get(guest.id) ?? '', host: hostId },
      guest,
    })),
  });
}
