/** What is computed about one resource and stored nowhere: `GET /v1/<plural>/{id}/views/<name>`. */
import type Router from '@koa/router';
import { type Caller, may, placeOf, scopesOf } from '../acceptance/caller.ts';
import type { Row } from '../acceptance/change.ts';
import { deletePlanOf } from '../acceptance/deletePlan.ts';
import { hookOf } from '../acceptance/hooks.ts';
import { type Visible, visibleTo } from '../acceptance/visible.ts';
import { hostConnections } from '../database/hosts.ts';
import { from, statementOfKind, tableOf, type Values } from '../database/statement.ts';
import { instantAt } from '../model/forms.ts';
import type { Kind, View } from '../model/kind.ts';
import { kindOf } from '../model/kinds.ts';
import { viewsOf } from '../model/views.ts';
import { AgentError } from '../runtime/hosts.ts';
import { isProblemCode, Problem } from '../runtime/problem.ts';
import { allowedTraffic } from './allowedTraffic.ts';
import { attachments } from './attachments.ts';
import { readById } from './query/gather.ts';
import { type Api, type Context, type State, send, uuidOf } from './request.ts';
import { serialLog } from './serialLog.ts';
import { targetHealth } from './targetHealth.ts';
import { topology } from './topology.ts';

export interface Viewing {
  api: Api;
  ctx: Context;
  kind: Kind;
  row: Row;
  /** Whether a caller may see this view of it, for answers that go on. */
  stillMay(caller: Caller): Promise<boolean>;
}

const measureTimeoutMs = 10_000;

async function measure(api: Api, hostId: string) {
  const host = await hostConnections(api.database).connect(hostId);
  const measured = await host.call('host.metrics', {}, { timeoutMs: measureTimeoutMs });
  return { ...measured, measuredAt: instantAt() };
}

async function metricsOfHost({ api, ctx, row }: Viewing): Promise<void> {
  const { domains: _, ...measured } = await measure(api, row.id);
  send(ctx, 200, JSON.stringify(measured));
}

async function metricsOfInstance({ api, ctx, row }: Viewing): Promise<void> {
  const { domains, measuredAt } = row.hostId ? await measure(api, String(row.hostId)) : { domains: [], measuredAt: '' };
  const measured = domains.find(({ id }) => id === row.id);
  if (!measured)
    throw new Problem(
      'INVALID_STATE',
      `instance ${row.id} is ${String(row.state)}: it uses nothing that could be measured`,
    );
  send(
    ctx,
    200,
    JSON.stringify({
      measuredAt,
      cpuSeconds: measured.cpuSeconds,
      memoryBytes: measured.memoryBytes,
      diskReadBytes: measured.readBytes,
      diskWrittenBytes: measured.writtenBytes,
      diskReadOperations: measured.readOperations,
      diskWriteOperations: measured.writeOperations,
      networkReceivedBytes: measured.receivedBytes,
      networkSentBytes: measured.sentBytes,
    }),
  );
}

/** By `<kind>.<view>`, which is also the permission; what every kind has, by the view's name alone. */
export const views: Readonly<Record<string, (viewing: Viewing) => Promise<void>>> = {
  async deletePlan({ api, ctx, kind, row }) {
    send(ctx, 200, JSON.stringify(await deletePlanOf(api.database, ctx.state.caller, kind, row)));
  },
  'host.metrics': metricsOfHost,
  'instance.metrics': metricsOfInstance,
  'instance.serialLog': serialLog,
  'networkInterface.allowedTraffic': allowedTraffic,
  'firewallPolicy.attachments': attachments,
  'vpc.topology': topology,
  'targetGroup.health': targetHealth,
};

const rowOf = statementOfKind((kind, p: Values<{ id: string }>) =>
  from.selectFrom(tableOf(kind)).selectAll().where('t.id', '=', p.id),
);

/** A view needs its permission where the delete of the resource needs its own. */
async function mayView(api: Api, caller: Caller, permission: string, kind: Kind, row: Row): Promise<boolean> {
  const hook = hookOf(kind.name, 'delete');
  if (hook?.isOwn?.(row, caller) && scopesOf(caller, permission).anywhere) return true;
  const home = hook?.livesIn?.(row);
  if (!home) return may(caller, permission, hook?.livesIn ? {} : placeOf(kind, row));
  const [there] = await rowOf(kindOf(home.kind))(api.database.connections, { id: home.id });
  return may(caller, permission, there ? placeOf(kindOf(home.kind), there) : {});
}

const everything: Visible = () => null;

async function answerView(api: Api, ctx: Context, kind: Kind, name: string, view: View): Promise<void> {
  for (const parameter of Object.keys(ctx.query))
    if (!view.parameters?.[parameter])
      throw new Problem('INVALID_ARGUMENT', `there is no parameter ${parameter.slice(0, 64)}`, {
        violations: [{ field: parameter.slice(0, 64), message: 'there is no such parameter' }],
      });
  const id = uuidOf(ctx, kind);
  const { caller } = ctx.state;
  const readAs = (by: Caller) => readById(api.database.connections, kind, id, { visible: visibleTo(by, 'get') });
  // A view is computed from all of the row, such as the host where an instance runs; its caller is told what the view says, and no more.
  const found = (await readAs(caller)) && (await readById(api.database.connections, kind, id, { visible: everything }));
  if (!found) throw new Problem('NOT_FOUND', `there is no ${kind.name} ${id}`);
  const row = JSON.parse(found.json) as Row;
  const permission = `${kind.name}.${name}`;
  const stillMay = async (by: Caller): Promise<boolean> =>
    (await readAs(by)) !== null && (await mayView(api, by, permission, kind, row));
  if (!(await mayView(api, caller, permission, kind, row)))
    throw new Problem('FORBIDDEN', `you need the permission ${permission} here`);
  try {
    await (views[permission] ?? views[name])?.({ api, ctx, kind, row, stillMay });
  } catch (error) {
    if (!(error instanceof AgentError)) throw error;
    // The address of a host is not everybody's to know.
    api.log.warn({ requestId: ctx.state.requestId, error: error.message }, 'a host did not answer for a view');
    throw new Problem(
      isProblemCode(error.code) ? error.code : 'HOST_UNREACHABLE',
      `the host does not answer: ${error.code}`,
      {
        resource: { kind: kind.name, id },
      },
    );
  }
}

export function viewRoutes(router: Router<State>, api: Api, kind: Kind): void {
  for (const [name, view] of Object.entries(viewsOf(kind)))
    router.get(`/v1/${kind.plural}/:id/views/${name}`, (ctx) => answerView(api, ctx, kind, name, view));
}
