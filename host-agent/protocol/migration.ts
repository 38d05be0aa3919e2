import * as Type from 'typebox';
import { change } from './call.ts';
import { byId, domain, domainStatus, ipAddress, name, orNull, uuid } from './fields.ts';

const count = Type.Integer({ minimum: 0 });

export const calls = {
  /**
   * Nothing takes this domain away from here any more: a migration under way is aborted in libvirt itself, whoever began it and whether or
   * not this agent remembers. Answers when it has come to rest, with what is here then; `absent` when it had gone over before. TIMEOUT
   * when it does not come to rest.
   */
  'domain.ensureNotMigrating': change(domain, domainStatus),
  /**
   * A guest that was left holding still by a migration which has come to rest goes on here. Whoever asks knows that no other host has it:
   * INVALID_STATE while a migration is under way, to this host or away from it.
   */
  'domain.ensureGoesOn': change(domain),
};

export const tasks = {
  /**
   * Live migration over libvirt's TLS to another agent's host; cancelling it leaves the guest running here. `cephUsers` are the
   * target's own, by storage cluster: each host opens images as itself. `sharedPools` are pools of files whose directory the target has, too.
   */
  'domain.migrate': change(
    {
      ...domain,
      targetAddress: ipAddress,
      cephUsers: byId(name),
      sharedPools: Type.Optional(Type.Array(uuid)),
      bandwidthBytesPerSec: orNull(Type.Integer({ minimum: 1 })),
      autoConverge: Type.Boolean(),
    },
    { downtimeMs: count, totalMs: count, transferredBytes: count },
  ),
};
