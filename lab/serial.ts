/** A guest's serial console, as the public API tells it. */
import type { Api } from './api.ts';

/**
 * Follows an instance's serial console from its beginning until `look` finds what it looks for in all that came so far; answers that.
 * Throws with the console's last lines when it is not there in time.
 */
export async function serialUntil(
  api: Api,
  instanceId: string,
  look: RegExp | ((text: string) => string | null),
  timeoutMs = 120_000,
): Promise<string> {
  const find = typeof look === 'function' ? look : (text: string) => look.exec(text)?.[0] ?? null;
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), timeoutMs);
  let text = '';
  try {
    const response = await fetch(`${api.url}/v1/instances/${instanceId}/views/serialLog?follow=true`, {
      headers: { authorization: `Bearer ${api.token}` },
      signal: stop.signal,
    });
    if (!response.ok || !response.body)
      throw new Error(`no serial console: ${response.status} ${await response.text()}`);
    for await (const chunk of response.body) {
      text += Buffer.from(chunk as Uint8Array).toString('latin1');
      const found = find(text);
      if (found !== null) return found.trim();
    }
    if (!stop.signal.aborted) throw new Error(`the serial console of ${instanceId} ended: ${text.slice(-300)}`);
  } catch (error) {
    if (!stop.signal.aborted) throw error;
  } finally {
    clearTimeout(timer);
    stop.abort();
  }
  throw new Error(
    `the guest did not print ${look} within ${timeoutMs / 1000} s; its console ends with: ${text.slice(-300)}`,
  );
}
