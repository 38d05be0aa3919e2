import { once } from 'node:events';
import { beforeEach, expect, test } from 'vitest';
import type { HostMetrics } from '../../../host-agent/protocol.ts';
import { freePort } from '../../../postgres/owned-process.ts';
import { metricsText, serveMetrics } from '../../../runtime/metrics.ts';
import { forgetAllBut, recordMeasured } from '../../../workers/measured.ts';

const guest = (id: string, cpuSeconds: number): HostMetrics['domains'][number] => ({
  id,
  cpuSeconds,
  memoryBytes: 1,
  readBytes: 2,
  writtenBytes: 3,
  readOperations: 4,
  writeOperations: 5,
  receivedBytes: 6,
  sentBytes: 7,
});
const host = (domains: HostMetrics['domains']): HostMetrics => ({
  cpuSeconds: 10,
  cpuCount: 2,
  memoryTotalBytes: 20,
  memoryAvailableBytes: 30,
  load1: 0,
  networkReceivedBytes: 40,
  networkSentBytes: 50,
  domains,
});

/** All series of hosts and instances, as Prometheus reads them. */
const told = async (): Promise<string[]> =>
  (await metricsText()).body.split('\n').filter((line) => /^belay_(host|instance)_.*\{/.test(line));

beforeEach(() => forgetAllBut(new Set()));

test('of a host and its guests is told what was measured last, and nothing of guests that have gone', async () => {
  const projects = new Map([['a', 'p']]);
  recordMeasured('h', host([guest('a', 1), guest('b', 2)]), projects);
  recordMeasured('h', host([guest('a', 3)]), projects);
  expect(await told()).toEqual([
    'belay_host_cpu_seconds_total{host="h"} 10',
    'belay_host_memory_available_bytes{host="h"} 30',
    'belay_host_memory_total_bytes{host="h"} 20',
    'belay_host_network_received_bytes_total{host="h"} 40',
    'belay_host_network_sent_bytes_total{host="h"} 50',
    'belay_instance_cpu_seconds_total{instance_id="a",project="p",host="h"} 3',
    'belay_instance_memory_bytes{instance_id="a",project="p",host="h"} 1',
    'belay_instance_disk_read_bytes_total{instance_id="a",project="p",host="h"} 2',
    'belay_instance_disk_written_bytes_total{instance_id="a",project="p",host="h"} 3',
    'belay_instance_network_received_bytes_total{instance_id="a",project="p",host="h"} 6',
    'belay_instance_network_sent_bytes_total{instance_id="a",project="p",host="h"} 7',
  ]);
});

test('of a host that is measured no more nothing is told', async () => {
  recordMeasured('h', host([guest('a', 1)]), new Map());
  recordMeasured('other', host([]), new Map());
  forgetAllBut(new Set(['other']));
  const series = await told();
  expect(series).toHaveLength(5);
  expect(series.filter((line) => !line.includes('"other"'))).toEqual([]);
});

test('a worker tells the same one after the other', async () => {
  recordMeasured('h', host([guest('a', 1)]), new Map());
  const port = await freePort();
  const server = serveMetrics(port);
  if (!server) throw new Error('nothing is served');
  await once(server, 'listening');
  const response = await fetch(`http://127.0.0.1:${port}/metrics`);
  const lines = (text: string): string[] => text.split('\n').filter((line) => /^(# TYPE )?belay_/.test(line));
  const { contentType, body } = await metricsText();
  expect(response.headers.get('content-type')).toBe(contentType);
  expect(lines(await response.text())).toEqual(lines(body));
  server.close();
});
