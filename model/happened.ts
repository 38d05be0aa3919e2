import type { Verb } from './actions.ts';

/** What an action is called once it has happened: the second part of an event's type, such as `instance.stopped`. */
const happened: Readonly<Record<Verb, string> & Record<string, string>> = {
  create: 'created',
  update: 'updated',
  delete: 'deleted',
  lock: 'locked',
  unlock: 'unlocked',
  enable: 'enabled',
  disable: 'disabled',
  connect: 'connected',
  repair: 'repaired',
  setRules: 'rulesSet',
  start: 'started',
  stop: 'stopped',
  reboot: 'rebooted',
  migrate: 'migrated',
  recover: 'recovered',
  settle: 'settled',
  expunge: 'expunged',
  attach: 'attached',
  detach: 'detached',
  resize: 'resized',
  revert: 'reverted',
  import: 'imported',
  cleanCache: 'cacheCleaned',
  runMany: 'manyRun',
  runNow: 'run',
  cascade: 'deletedWithAll',
  cancel: 'cancelled',
  retry: 'retried',
  skipStep: 'stepSkipped',
  reset: 'reset',
  accept: 'accepted',
  decline: 'declined',
};

/** Throws for a verb that is not in the table: how it goes on is not guessed. */
export function happenedOf(verb: string): string {
  const word = Object.hasOwn(happened, verb) ? happened[verb] : undefined;
  if (word === undefined)
    throw new Error(`model/happened.ts does not say what "${verb}" is called once it has happened`);
  return word;
}
