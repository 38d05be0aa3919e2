/** Which networks carry a firewall policy, as far as whoever asks may see them. */
import { may, placeOf } from '../acceptance/caller.ts';
import { from, statement, type Values } from '../database/statement.ts';
import { kindOf } from '../model/kinds.ts';
import { send } from './request.ts';
import type { Viewing } from './views.ts';

const networksCarrying = statement((p: Values<{ firewallPolicyId: string }>) =>
  from
    .selectFrom('network')
    .select(['id', 'name', 'projectId'])
    .where('firewallPolicyId', '=', p.firewallPolicyId)
    .where('deletedAt', 'is', null)
    .orderBy('name')
    .orderBy('id'),
);

export async function attachments({ api, ctx, row }: Viewing): Promise<void> {
  const kind = kindOf('network');
  const networks = await networksCarrying(api.database.connections, { firewallPolicyId: row.id });
  const items = networks
    .filter((network) => may(ctx.state.caller, 'network.get', placeOf(kind, network)))
    .map(({ id, name }) => ({ kind: kind.name, id, name }));
  send(ctx, 200, JSON.stringify({ items }));
}
