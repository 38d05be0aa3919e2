/** What a person wants to know of a host beside its fields: why it is as it is, who is at work on it, and what happens next. */

type Row = Record<string, unknown>;

const told = (value: unknown): string | null => (typeof value === 'string' && value !== '' ? value : null);
const ended = (sentence: string): string => (/[.!?]$/.test(sentence) ? sentence : `${sentence}.`);
const because = (reason: unknown): string => (told(reason) ? ` ${ended(`Why: ${told(reason)}`)}` : '');

const error = ({ error: problem }: Row): string => String((problem as Row | null)?.message ?? 'it did not say why');

/** The steps that are under way, or else that it is about to begin. */
function underWay({ steps }: Row): string {
  const names = (Array.isArray(steps) ? (steps as Row[]) : [])
    .filter(({ state }) => state === 'running' || state === 'undoing')
    .map(({ name }) => String(name));
  return names.length > 0 ? `at ${names.join(', ')}` : 'under way';
}

/** What one operation of the host does right now. */
function ofOperation(one: Row): string {
  const { id, type, state } = one;
  const name = `${String(type)} (operation ${String(id)})`;
  if (state === 'stuck')
    return `${name} is stuck, and waits for a person: ${ended(error(one))} To try again: belay operations retry ${id}. It goes on by itself when only a host did not answer.`;
  if (told(one.waitsFor)) return `${name} waits for a person: ${ended(String(one.waitsFor))}`;
  if (state === 'queued') return `${name} waits for its turn.`;
  if (state === 'rollingBack') return `${name} takes back what it has done, because: ${ended(error(one))}`;
  return `${name} is ${underWay(one)}. To follow it: belay operations watch ${id}`;
}

const ofHealth = (host: Row): string | null => {
  const { health, connection, healthReason } = host;
  const why = told(healthReason) ? ` ${ended(String(healthReason))}` : '';
  if (health === 'unreachable') return `It does not answer.${why}`;
  if (health === 'suspect') return `It has perhaps failed.${why}`;
  if (health === 'down')
    return `It has failed.${why} If nothing above says why not, its failover begins by itself; else: belay hosts failover ${host.name}`;
  if (connection === 'degraded')
    return 'The connection to it has broken, and is being opened again. Guests run on; in a few seconds it is known whether it answers.';
  if (connection === 'disconnected')
    return 'It has not answered for some seconds, and nothing new is placed on it. Others are asked about it as soon as it is silent for as long as its cluster says (ha.suspectSeconds).';
  return null;
};

/** Those instances of a failed host that are not started elsewhere, as a filter takes them: what is lost may have let go of it. */
export const lostOf = (hostId: unknown): string =>
  `hostId = "${String(hostId)}" OR (state = "lost" AND hostId = null AND lastHostId = "${String(hostId)}")`;

/** `lost` is null where it may not be known. */
function ofLost({ id }: Row, lost: number | null): string {
  if (lost === 0) return 'None of its instances is lost.';
  const which =
    lost === null
      ? 'Those of its instances that could not be started elsewhere are lost'
      : `${lost} of its instances ${lost === 1 ? 'is' : 'are'} lost, or not yet started elsewhere`;
  return `${which}; what they wait for: belay instances list --all-projects --filter '${lostOf(id)}' --columns name,state,lostReason`;
}

function ofState(host: Row, lost: number | null): string {
  const { name, state, enabled } = host;
  const isDead = told(host.deadAt) !== null;
  switch (state) {
    case 'active':
      return (
        ofHealth(host) ??
        (enabled === false
          ? `It answers, and nothing new is placed on it, because it is closed. To open it: belay hosts update ${name} --enabled`
          : 'It answers, and is in use.')
      );
    case 'adding':
      return 'It is being added: it is in use when that has succeeded, and gone when it has failed.';
    case 'connecting':
      return ofHealth(host) ?? 'Its agent and settings are brought up to date. Guests run on.';
    case 'enteringMaintenance':
      return [ofHealth(host), `It is being emptied, and nothing new is placed on it.${because(host.maintenanceReason)}`]
        .filter(Boolean)
        .join(' ');
    case 'maintenance':
      return `It is empty, and stays so: it may be switched off, and nobody misses it.${because(host.maintenanceReason)} To use it again: belay hosts exit-maintenance ${name}`;
    case 'exitingMaintenance':
      return 'It is brought up to date, and in use again then.';
    case 'fencing':
      return `It has failed: it is shut out of its storage, and then its instances are started elsewhere.${because(host.stateReason)}`;
    case 'fenced':
      return `It has failed and is shut out of its storage.${because(host.stateReason)} ${
        isDead || lost === 0
          ? ''
          : `What it could still write to stays down until it is known to be off: belay hosts failover ${name} --confirm-dead. `
      }It is used by nobody, even if it answers, until: belay hosts reinstate ${name}. If it never comes back: belay hosts delete ${name} --force`;
    case 'reinstating':
      return 'It is taken back: what it still runs is ended, then its storage is opened to it. If that fails it stays shut out.';
    case 'deleting':
      return 'It is being removed.';
    case 'failed':
      return 'It could not be added, and nothing is left of it. Its operation says why.';
    default:
      return `It is ${String(state)}.`;
  }
}

/**
 * In sentences, each of which stands in a line of its own. `open` are the operations on it that have not ended, `lost` is how many of the instances of
 * one that has failed are not started elsewhere.
 */
export const hostStanding = (host: Row, open: readonly Row[], lost: number | null = null): string[] => [
  ofState(host, lost),
  ...(host.state === 'fenced' ? [ofLost(host, lost)] : []),
  ...open.map(ofOperation),
];
