/** The serial console of a guest that moves: one log, wherever it is said. */
import { expect, inject, test } from 'vitest';
import { joinCloud } from '../support/cloud.ts';

const { admin, cloud, deploy, removeInstance } = joinCloud(inject('cloud'));
const { tenant } = cloud;

const path = (id: string): string => `/v1/instances/${id}/views/serialLog`;
const wholeLog = async (id: string): Promise<string> => (await tenant.raw('GET', path(id), null)).text();
const act = (id: string, verb: string, body: unknown = {}): Promise<unknown> =>
  tenant.done('POST', `/v1/instances/${id}/actions/${verb}`, body);
/** A simulated guest speaks when it boots. */
const speak = (id: string): Promise<unknown> => act(id, 'reboot', { mode: 'force' });

test('who follows the console goes along, and neither misses nor hears twice', async () => {
  const { id } = await deploy('moving');
  const host = async (): Promise<unknown> => (await admin.call('GET', `/v1/instances/${id}`)).hostId;
  const response = await tenant.raw('GET', `${path(id)}?follow=true`, null);
  let heard = '';
  const listening = (async () => {
    const decoder = new TextDecoder();
    for await (const chunk of response.body ?? []) heard += decoder.decode(chunk as Uint8Array, { stream: true });
  })();
  const boots = (text: string): number => text.split('READY').length - 1;
  const heardBoots = async (count: number): Promise<void> => {
    while (boots(heard) < count) await new Promise((resolve) => setTimeout(resolve, 20));
  };
  await heardBoots(1);
  const first = await host();
  await act(id, 'migrate');
  const second = await host();
  expect(second).not.toBe(first);
  await speak(id);
  await heardBoots(2);
  // Back to where its first words were said.
  await admin.done('POST', `/v1/instances/${id}/actions/migrate`, { hostId: first });
  expect(await host()).toBe(first);
  await speak(id);
  await heardBoots(3);
  expect(boots(heard)).toBe(3);
  expect(await wholeLog(id)).toBe(heard);
  const again = await tenant.raw('GET', `${path(id)}?follow=true`, null);
  for await (const chunk of again.body ?? []) {
    expect(new TextDecoder().decode(chunk as Uint8Array)).toContain(heard.slice(0, 20));
    break;
  }
  await removeInstance(id);
  // With the guest the stream ends.
  await listening;
  expect(boots(heard)).toBe(3);
});
