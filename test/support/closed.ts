/** Hosts that nothing new is placed on for a while. */
import type { Api } from '../../lab/api.ts';

/** Closes them until what it answers is called; that is among what to `restore` from the beginning, should the test end before. */
export async function closed(
  admin: Api,
  hostIds: readonly string[],
  restore: (() => Promise<unknown>)[],
): Promise<() => Promise<unknown>> {
  const enable = (enabled: boolean): Promise<unknown> =>
    Promise.all(hostIds.map((id) => admin.call('PATCH', `/v1/hosts/${id}`, { enabled })));
  const open = (): Promise<unknown> => enable(true);
  restore.push(open);
  await enable(false);
  return open;
}
