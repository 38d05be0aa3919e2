/**
 * The credentials by which the platform gets into a host and its BMC, changed one for the other. The next one is kept beside the present one from before it is used
 * until after: whatever dies in between, one of the two lets us in.
 */
import { randomInt } from 'node:crypto';
import { acceptOwn } from '../../acceptance/own.ts';
import { entryOf, holdsHost, noteRotated, toRotate } from '../../database/credentials.ts';
import type { Database, Queryable, Transaction } from '../../database/database.ts';
import { forgetSecrets, type Owner, readSecrets, writeSecret } from '../../database/secrets.ts';
import { noteSent, wasSent } from '../../database/sent.ts';
import { platformOwner } from '../../database/wellKnown.ts';
import { connectHost, type HostConnection } from '../../host-agent/connection.ts';
import { authorizeKey, removeKey } from '../../host-agent/install.ts';
import type { HostCredential } from '../../model/platform/credentials.ts';
import type { StartOperation } from '../../model/platform/operation.ts';
import { newSshKey } from '../../runtime/sshKey.ts';
import { refuse } from '../failure.ts';
import { asHolder, refuseLate } from '../holder.ts';
import { unlessFenced } from '../silence.ts';
import { type StepContext, step } from '../step.ts';
import type { World } from '../world.ts';
import { keyFields, type SshKey, sshKeyFrom, sshKeyOf } from './credentials.ts';
import { bmcPasswordField, nextBmcPasswordField, powerOf } from './power/index.ts';

interface Rotation {
  hostId: string;
  credentials: HostCredential[];
}

/** The BMC may have the next password. */
const passwordSent = 'bmcPassword';
/** The public key that is to be removed on the host; no secret, and kept where the others are. */
const formerKey = 'formerSshPublicKey';

/** Letters and digits that nobody takes for each other; sixteen fit every BMC. */
const letters = ['abcdefghijkmnopqrstuvwxyz', 'ABCDEFGHJKLMNPQRSTUVWXYZ', '23456789'] as const;
const passwordLength = 16;

/** With one of each sort, which is what BMCs ask for. */
function newPassword(): string {
  const all = letters.join('');
  for (;;) {
    const password = Array.from({ length: passwordLength }, () => all[randomInt(all.length)]).join('');
    if (letters.every((sort) => [...password].some((letter) => sort.includes(letter)))) return password;
  }
}

const ownerOf = (hostId: string): Owner => ({ kind: 'host', id: hostId });

export const hostCredentials = (world: World) => {
  const { database } = world;
  const { connections } = database;

  /** One transaction of the operation that holds the host: of another one nothing is written. */
  const asHolderOf = (hostId: string, context: StepContext, body: (tx: Transaction) => Promise<void>): Promise<void> =>
    asHolder(database, context, async (tx) => {
      const [held] = await holdsHost(tx, { hostId, operationId: context.operationId });
      if (!held) throw refuse('INVALID_STATE', `host ${hostId} is not held by operation ${context.operationId}`);
      await body(tx);
    });

  async function find(hostId: string) {
    const [host] = await entryOf(connections, { hostId });
    if (!host) throw refuse('NOT_FOUND', `there is no host ${hostId}`);
    return host;
  }
  const nextOf = (hostId: string, on: Queryable = connections) =>
    readSecrets(on, ownerOf(hostId), [keyFields.next.privateKey, keyFields.next.publicKey, nextBmcPasswordField]);
  const nextKey = (next: Awaited<ReturnType<typeof nextOf>>): SshKey | null =>
    next.nextSshPrivateKey && next.nextSshPublicKey ? sshKeyFrom(next.nextSshPrivateKey, next.nextSshPublicKey) : null;

  /** By this key, over a connection of its own. A simulated host asks for none. */
  async function overSsh(
    hostId: string,
    key: SshKey,
    work: (connection: HostConnection) => Promise<void>,
  ): Promise<void> {
    const host = await find(hostId);
    const connection = await connectHost({
      address: host.address,
      port: host.sshPort,
      user: host.sshUser,
      ...(host.sshHostKey === null ? {} : { hostKey: host.sshHostKey }),
      ...(host.address.startsWith('sim://') ? {} : { privateKey: key.privateKey }),
    });
    try {
      await work(connection);
    } finally {
      await connection.close();
    }
  }

  return {
    makeCredentials: step({
      system: 'record',
      async do({ hostId, credentials }: Rotation, context) {
        const { hasBmc } = await find(hostId);
        await asHolderOf(hostId, context, async (tx) => {
          const known = await nextOf(hostId, tx);
          if (credentials.includes('sshKey') && !nextKey(known)) {
            const pair = newSshKey();
            await writeSecret(tx, ownerOf(hostId), keyFields.next.privateKey, pair.private);
            await writeSecret(tx, ownerOf(hostId), keyFields.next.publicKey, pair.public.trim());
          }
          if (credentials.includes('bmcPassword') && hasBmc && !known.nextBmcPassword)
            await writeSecret(tx, ownerOf(hostId), nextBmcPasswordField, newPassword());
        });
      },
      undoText: 'forget them',
      undo: ({ hostId }, context) =>
        asHolderOf(hostId, context, (tx) =>
          forgetSecrets(tx, ownerOf(hostId), [...Object.values(keyFields.next), nextBmcPasswordField]),
        ),
    }),

    /** The host takes the next key beside the present one; a BMC has one password, and takes the next for it. */
    addCredentials: step({
      system: 'host',
      async do({ hostId }: Rotation, context) {
        const next = await nextOf(hostId);
        const key = nextKey(next);
        await refuseLate(connections, context);
        if (key) await overSsh(hostId, await sshKeyOf(database, hostId), (connection) => authorizeKey(connection, key));
        const password = next.nextBmcPassword;
        const power = password ? await powerOf(database, hostId) : null;
        if (!power || !password) return;
        if (await power.opensBy()) {
          await asHolderOf(hostId, context, async (tx) => {
            await noteSent(tx, { operationId: context.operationId, what: passwordSent });
          });
          await power.changePassword(password);
        } else if (!(await power.opensBy(password)))
          throw refuse('PRECONDITION_FAILED', `the BMC of host ${hostId} lets us in by no password that is known`);
      },
      undoText: 'remove the key, set the password before',
      async undo({ hostId }, context) {
        const next = await nextOf(hostId);
        const key = nextKey(next);
        await refuseLate(connections, context);
        // Of the key that stays there then nobody has the other half.
        if (key)
          await unlessFenced(world, hostId, async () =>
            overSsh(hostId, await sshKeyOf(database, hostId), (connection) => removeKey(connection, key)),
          );
        const password = next.nextBmcPassword;
        // What it was never told it does not have.
        const told = await wasSent(connections, { operationId: context.operationId, what: passwordSent });
        const power = password && told.length > 0 ? await powerOf(database, hostId) : null;
        if (!power || !password) return;
        if (await power.opensBy()) return;
        const { bmcPassword } = await readSecrets(connections, ownerOf(hostId), [bmcPasswordField]);
        if (bmcPassword && (await power.opensBy(password))) await power.changePassword(bmcPassword, password);
        // Until then the next one may be the only one that lets us in, and is kept.
        if (!(await power.opensBy()))
          throw refuse(
            'PRECONDITION_FAILED',
            `the BMC of host ${hostId} does not let us in by the password before, so the next one is kept beside it`,
          );
      },
    }),

    verifyCredentials: step({
      system: 'host',
      async do({ hostId }: Rotation) {
        const next = await nextOf(hostId);
        const key = nextKey(next);
        if (key) await overSsh(hostId, key, async () => {});
        const power = next.nextBmcPassword ? await powerOf(database, hostId) : null;
        if (power && next.nextBmcPassword && !(await power.opensBy(next.nextBmcPassword)))
          throw refuse(
            'PRECONDITION_FAILED',
            `the BMC of host ${hostId} has taken another password, and does not let us in by it`,
          );
      },
    }),

    /** From now on we come by these. Those before are forgotten, but for which key is to be removed on the host. */
    adoptCredentials: step({
      system: 'record',
      async do({ hostId }: Rotation, context) {
        await asHolderOf(hostId, context, async (tx) => {
          const owner = ownerOf(hostId);
          const next = await nextOf(hostId, tx);
          const key = nextKey(next);
          if (key) {
            // Asked for without making one: whoever comes late changes nothing.
            const own = await readSecrets(tx, owner, [keyFields.present.publicKey]);
            const common = await readSecrets(tx, platformOwner, ['sshPublicKey']);
            const former = own.hostSshPublicKey ?? common.sshPublicKey;
            if (former) await writeSecret(tx, owner, formerKey, former);
            await writeSecret(tx, owner, keyFields.present.privateKey, key.privateKey);
            await writeSecret(tx, owner, keyFields.present.publicKey, key.publicKey);
          }
          if (next.nextBmcPassword) await writeSecret(tx, owner, bmcPasswordField, next.nextBmcPassword);
          await forgetSecrets(tx, owner, [...Object.values(keyFields.next), nextBmcPasswordField]);
          await noteRotated(tx, { hostId, operationId: context.operationId });
        });
      },
    }),

    dropCredentials: step({
      system: 'host',
      async do({ hostId }: Pick<Rotation, 'hostId'>, context) {
        const { formerSshPublicKey } = await readSecrets(connections, ownerOf(hostId), [formerKey]);
        if (!formerSshPublicKey) return;
        await refuseLate(connections, context);
        // Of one that is shut out the key is known until it is taken back, and removed then.
        await unlessFenced(world, hostId, async () => {
          await overSsh(hostId, await sshKeyOf(database, hostId), (connection) =>
            removeKey(connection, sshKeyFrom('', formerSshPublicKey)),
          );
          await asHolderOf(hostId, context, (tx) => forgetSecrets(tx, ownerOf(hostId), [formerKey]));
        });
      },
    }),
  };
};

/** So many hosts at a time at least: what goes wrong with one is seen before all have it. More only where there are too many hosts for that. */
const atOnce = { least: 10, most: 200 };

/** Begins it for those whose credentials are old. Who is at work otherwise has its turn another time. */
export async function rotateCredentials(database: Database): Promise<{ begun: StartOperation[] }> {
  const begun: StartOperation[] = [];
  for (const { id } of await toRotate(database.connections, atOnce)) {
    const outcome = await acceptOwn(database, 'host', 'rotateCredentials', id, 'credentials', {
      leftToDispatcher: false,
    });
    if (outcome?.start) begun.push(outcome.start);
  }
  return { begun };
}
