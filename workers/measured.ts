/** What hosts and their guests use, as Prometheus is told. */
import type { HostMetrics } from '../host-agent/protocol.ts';
import { metrics } from '../runtime/metrics.ts';

/** Of guests that have gone nothing is told any more. */
export function forgetInstances(): void {
  for (const gauge of [
    metrics.instanceCpu,
    metrics.instanceMemory,
    metrics.instanceRead,
    metrics.instanceWritten,
    metrics.instanceReceived,
    metrics.instanceSent,
  ])
    gauge.reset();
}

/** `projects` are those of instances. */
export function recordMeasured(hostId: string, measured: HostMetrics, projects: Map<string, string>): void {
  metrics.hostCpu.labels(hostId).set(measured.cpuSeconds);
  metrics.hostMemoryAvailable.labels(hostId).set(measured.memoryAvailableBytes);
  metrics.hostMemoryTotal.labels(hostId).set(measured.memoryTotalBytes);
  metrics.hostReceived.labels(hostId).set(measured.networkReceivedBytes);
  metrics.hostSent.labels(hostId).set(measured.networkSentBytes);
  for (const domain of measured.domains) {
    const labels = [domain.id, projects.get(domain.id) ?? '', hostId] as const;
    metrics.instanceCpu.labels(...labels).set(domain.cpuSeconds);
    metrics.instanceMemory.labels(...labels).set(domain.memoryBytes);
    metrics.instanceRead.labels(...labels).set(domain.readBytes);
    metrics.instanceWritten.labels(...labels).set(domain.writtenBytes);
    metrics.instanceReceived.labels(...labels).set(domain.receivedBytes);
    metrics.instanceSent.labels(...labels).set(domain.sentBytes);
  }
}
