/** Guests that a machine has kept of a life as another host. */
import type { HostInventory } from '../../host-agent/protocol.ts';
import { refuse } from '../failure.ts';

/** Guests of this platform that a machine knows, those that run and the others. */
export function guestsIn({ domains }: HostInventory): { running: string[]; idle: string[] } {
  const guests = domains.filter(({ tags }) => tags?.kind === 'instance');
  const idsOf = (wanted: boolean): string[] =>
    guests.filter(({ state }) => (state === 'running' || state === 'paused') === wanted).map(({ id }) => id);
  return { running: idsOf(true), idle: idsOf(false) };
}

export function refuseRunning(address: string, found: HostInventory): void {
  const { running } = guestsIn(found);
  if (running.length > 0)
    throw refuse(
      'PRECONDITION_FAILED',
      `guests of an earlier life run on ${address}, and perhaps elsewhere too; end them there before it is added: ${running.join(', ')}`,
    );
}
