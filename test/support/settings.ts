/** Settings of the installation. */
import type { Api } from '../../lab/api.ts';

/** Answers what puts back the value of before. */
export async function setSetting(admin: Api, name: string, value: unknown): Promise<() => Promise<void>> {
  const { items } = await admin.call<{ items: { id: string; value: unknown }[] }>(
    'GET',
    `/v1/settings?filter=${encodeURIComponent(`name = "${name}"`)}`,
  );
  const [setting] = items;
  const path = `/v1/settings/${setting?.id}`;
  await admin.call('PATCH', path, { value });
  return async () => void (await admin.call('PATCH', path, { value: setting?.value }));
}
