import { createServer, type Server } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Counter, collectDefaultMetrics, Gauge, Histogram, register } from 'prom-client';

/** Metrics of every process; names and labels as in docs/operations.md. Labels never carry names given by users. */
const seconds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];

export const metrics = {
  requests: new Counter({
    name: 'belay_requests_total',
    help: 'HTTP requests answered',
    labelNames: ['method', 'route', 'status'],
  }),
  requestDuration: new Histogram({
    name: 'belay_request_duration_seconds',
    help: 'Time to answer a request',
    labelNames: ['method', 'route'],
    buckets: seconds,
  }),
  operations: new Counter({
    name: 'belay_operations_total',
    help: 'Operations that ended',
    labelNames: ['type', 'outcome'],
  }),
  stepDuration: new Histogram({
    name: 'belay_step_duration_seconds',
    help: 'Time of one attempt of a step',
    labelNames: ['step', 'direction', 'outcome'],
    buckets: seconds,
  }),
  stepRetries: new Counter({
    name: 'belay_step_retries_total',
    help: 'Attempts of steps after the first',
    labelNames: ['step'],
  }),
  rollbacks: new Counter({ name: 'belay_rollbacks_total', help: 'Operations that were undone', labelNames: ['type'] }),
  callbacks: new Counter({
    name: 'belay_callbacks_total',
    help: 'Attempts to tell callers that their operation has ended',
    labelNames: ['outcome'],
  }),
  open: new Gauge({
    name: 'belay_open_answers',
    help: 'Answers that stay open',
    labelNames: ['sort'],
  }),
  openRefused: new Counter({
    name: 'belay_open_refused_total',
    help: 'Answers that would have stayed open and were refused, because their caller has too many',
    labelNames: ['sort'],
  }),
  queriesRefused: new Counter({
    name: 'belay_queries_refused_total',
    help: 'Lists that were too expensive',
    labelNames: ['why'],
  }),
  uploadsAbandoned: new Counter({
    name: 'belay_uploads_abandoned_total',
    help: 'Uploads whose server died, thrown away',
  }),
  maintenance: new Counter({
    name: 'belay_maintenance_runs_total',
    help: 'Runs of maintenance that ended',
    labelNames: ['name', 'outcome'],
  }),
  scheduledRuns: new Counter({
    name: 'belay_scheduled_runs_total',
    help: 'Runs of schedules that were due: begun, skipped, or refused because of missing rights',
    labelNames: ['outcome'],
  }),
  forgotten: new Counter({
    name: 'belay_records_released_total',
    help: 'Resources that were held by an operation that had ended',
    labelNames: ['kind'],
  }),
  findings: new Gauge({
    name: 'belay_findings_open',
    help: 'Findings that are open',
    labelNames: ['class', 'severity'],
  }),
  poolUp: new Gauge({
    name: 'belay_pool_up',
    help: '1 while a host that reaches the storage pool can read what lies in it',
    labelNames: ['pool', 'type'],
  }),
  poolTotal: new Gauge({ name: 'belay_pool_bytes', help: 'Room of a storage pool', labelNames: ['pool', 'type'] }),
  poolUsed: new Gauge({ name: 'belay_pool_used_bytes', help: 'What of it is used', labelNames: ['pool', 'type'] }),
  poolPromised: new Gauge({
    name: 'belay_pool_promised_bytes',
    help: 'What volumes and copies of images were promised of it',
    labelNames: ['pool', 'type'],
  }),
  poolPromisable: new Gauge({
    name: 'belay_pool_promisable_bytes',
    help: 'As much it may promise',
    labelNames: ['pool', 'type'],
  }),
  stuck: new Gauge({ name: 'belay_operations_stuck', help: 'Operations that wait for a person' }),
  waiting: new Gauge({
    name: 'belay_operations_waiting',
    help: 'Operations that wait for a person to do something outside',
  }),
  controlNodes: new Gauge({
    name: 'belay_control_nodes',
    help: 'Processes of the control plane that are registered',
    labelNames: ['role', 'state'],
  }),
  queueDepth: new Gauge({ name: 'belay_operations_queued', help: 'Operations that wait for their turn' }),
  lockWait: new Histogram({
    name: 'belay_lock_wait_seconds',
    help: 'From acceptance to the start of an operation',
    buckets: seconds,
  }),
  hostCertificatesEnding: new Gauge({
    name: 'belay_host_certificates_ending',
    help: 'Hosts with a certificate in the last third of its life',
  }),
  bmcsSilent: new Gauge({
    name: 'belay_bmcs_silent',
    help: 'Hosts whose BMC did not tell whether they are on when it was asked last',
  }),
  instancesLost: new Gauge({
    name: 'belay_instances_lost',
    help: 'Instances of failed hosts that could not be started elsewhere yet',
  }),
  shards: new Gauge({ name: 'belay_shard_leases', help: 'Shards this process carries' }),
  agentCalls: new Histogram({
    name: 'belay_agent_call_duration_seconds',
    help: 'Round trip to a host agent',
    labelNames: ['call', 'outcome'],
    buckets: seconds,
  }),
  hostUp: new Gauge({ name: 'belay_host_up', help: '1 while the agent answers', labelNames: ['host'] }),
  hostCpu: new Gauge({ name: 'belay_host_cpu_seconds_total', help: 'CPU time used on the host', labelNames: ['host'] }),
  hostMemoryAvailable: new Gauge({
    name: 'belay_host_memory_available_bytes',
    help: 'Memory available on the host',
    labelNames: ['host'],
  }),
  hostMemoryTotal: new Gauge({
    name: 'belay_host_memory_total_bytes',
    help: 'Memory of the host',
    labelNames: ['host'],
  }),
  hostReceived: new Gauge({
    name: 'belay_host_network_received_bytes_total',
    help: 'Bytes received by the host',
    labelNames: ['host'],
  }),
  hostSent: new Gauge({
    name: 'belay_host_network_sent_bytes_total',
    help: 'Bytes sent by the host',
    labelNames: ['host'],
  }),
  instanceCpu: new Gauge({
    name: 'belay_instance_cpu_seconds_total',
    help: 'CPU time of an instance',
    labelNames: ['instance_id', 'project', 'host'],
  }),
  instanceMemory: new Gauge({
    name: 'belay_instance_memory_bytes',
    help: 'Memory of an instance on its host',
    labelNames: ['instance_id', 'project', 'host'],
  }),
  instanceRead: new Gauge({
    name: 'belay_instance_disk_read_bytes_total',
    help: 'Bytes an instance read from its disks',
    labelNames: ['instance_id', 'project', 'host'],
  }),
  instanceWritten: new Gauge({
    name: 'belay_instance_disk_written_bytes_total',
    help: 'Bytes an instance wrote to its disks',
    labelNames: ['instance_id', 'project', 'host'],
  }),
  instanceReceived: new Gauge({
    name: 'belay_instance_network_received_bytes_total',
    help: 'Bytes an instance received',
    labelNames: ['instance_id', 'project', 'host'],
  }),
  instanceSent: new Gauge({
    name: 'belay_instance_network_sent_bytes_total',
    help: 'Bytes an instance sent',
    labelNames: ['instance_id', 'project', 'host'],
  }),
};

/**
 * These are told from the start, as 0. Prometheus takes a series that begins with its first events for one that has not increased, so an alert on
 * what should never happen would miss the first of it.
 */
export function tellFromZero<Label extends string>(
  counter: Counter<Label>,
  labels: readonly Readonly<Record<Label, string>>[],
): void {
  for (const of of labels) counter.inc(of, 0);
}

/** Another process may look the next time: what this one has told does not stand for ever, and is 0 again after so long. */
export function toldFor(gauge: Gauge, ms: number): (value: number) => void {
  let forgetting: NodeJS.Timeout | undefined;
  return (value) => {
    clearTimeout(forgetting);
    gauge.set(value);
    forgetting = setTimeout(() => gauge.set(0), ms).unref();
  };
}

/** From now on the series of a gauge are made when they are asked for: to keep hundreds of thousands of them takes more than to make them. */
export function tellWhenAsked(
  gauge: Gauge<string>,
  series: () => { labels: Record<string, string>; value: number }[],
): void {
  const get = gauge.get.bind(gauge);
  gauge.get = async () => ({ ...(await get()), values: series() });
}

interface Answers {
  count: { inc(): void };
  duration: { observe(seconds: number): void };
}

/** By method, route and status: to find the counters of given labels costs more than to count. There are as many as the API has of them. */
const answers = new Map<string, Answers>();

/** A request was answered. */
export function answered(method: string, route: string, status: number, secondsTaken: number): void {
  const key = `${method} ${status} ${route}`;
  let known = answers.get(key);
  if (!known) {
    known = {
      count: metrics.requests.labels(method, route, String(status)),
      duration: metrics.requestDuration.labels(method, route),
    };
    answers.set(key, known);
  }
  known.count.inc();
  known.duration.observe(secondsTaken);
}

let collecting = false;

function collect(): void {
  if (collecting) return;
  collecting = true;
  collectDefaultMetrics();
}

/** The process's metrics in Prometheus' text format. */
export async function metricsText(): Promise<{ contentType: string; body: string }> {
  collect();
  return { contentType: register.contentType, body: await register.metrics() };
}

/** The same one after the other: of tens of thousands of hosts they are more than one text can hold. */
async function* eachMetric(): AsyncGenerator<string> {
  collect();
  for (const { name } of register.getMetricsAsArray()) yield `${await register.getSingleMetricAsString(name)}\n\n`;
}

/** Serves `/metrics`, `/healthz` for processes that have no API of their own. Port 0 serves nothing. */
export function serveMetrics(port: number): Server | null {
  if (port === 0) return null;
  const server = createServer((request, response) => {
    if (request.url === '/healthz') return void response.end('ok\n');
    if (request.url !== '/metrics') return void response.writeHead(404).end();
    response.setHeader('content-type', register.contentType);
    // Who asks may go away before all is told.
    pipeline(Readable.from(eachMetric()), response).catch(() => {});
  });
  server.listen(port, '127.0.0.1');
  return server;
}
