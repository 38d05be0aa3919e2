/** Holds a call of the simulated hosts until it is let go, so that a test can look at what is under way. */
export async function hold(
  simulatorUrl: string,
  call: string,
  when: 'before' | 'after' = 'before',
): Promise<() => Promise<void>> {
  const rule = { call, when, action: 'hang' };
  const response = await fetch(`${simulatorUrl}/_sim/rules`, { method: 'POST', body: JSON.stringify(rule) });
  const { id } = (await response.json()) as { id: string };
  let held = true;
  return async () => {
    if (!held) return;
    held = false;
    await fetch(`${simulatorUrl}/_sim/rules/${id}`, { method: 'DELETE' });
  };
}
