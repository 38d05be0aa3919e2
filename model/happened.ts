import type { SharedVerb } from './actions.ts';
import type { Kind } from './kind.ts';

/** What the actions that several kinds have are called once they have happened. */
const shared: Readonly<Record<SharedVerb, string> & Record<string, string>> = {
  create: 'created',
  update: 'updated',
  delete: 'deleted',
  lock: 'locked',
  unlock: 'unlocked',
  enable: 'enabled',
  disable: 'disabled',
  recover: 'recovered',
  expunge: 'expunged',
};

/** The second part of the type of an event that tells of it, such as `instance.stopped`. Throws where nothing says the word: how a verb goes on is not guessed. */
export function happenedOf({ name, actions }: Kind, verb: string): string {
  const word = actions[verb]?.happened ?? (Object.hasOwn(shared, verb) ? shared[verb] : undefined);
  if (word === undefined) throw new Error(`nothing says what ${name}.${verb} is called once it has happened`);
  return word;
}
