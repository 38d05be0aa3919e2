/**
 * What the platform proves itself with: one SSH key pair for all hosts, and an authority whose certificates let hosts migrate
 * guests to each other. Made on first need, kept as secrets, never told.
 */
import { createHash } from 'node:crypto';
import { isIP } from 'node:net';
import { type Database, type Queryable, transaction } from '../../database/database.ts';
import { lockSecrets, type Owner, readSecrets, secretsOfAll, writeSecret } from '../../database/secrets.ts';
import { platformOwner } from '../../database/wellKnown.ts';
import {
  endsSoon,
  type Issued,
  issueAuthority,
  issueCertificate,
  issueForSigning,
  standsFor,
} from '../../runtime/certificate.ts';
import { isWhole, newSshKey } from '../../runtime/sshKey.ts';

/** The secrets of an owner under these fields, made all at once by whoever comes first, and anew by whoever finds them not good any more. */
async function keep<Field extends string>(
  database: Database,
  owner: Owner,
  fields: readonly Field[],
  make: () => Promise<Record<Field, string>>,
  isGood: (known: Record<Field, string>) => boolean = () => true,
): Promise<Record<Field, string>> {
  const read = async (on: Queryable): Promise<Record<Field, string> | null> => {
    const values = await readSecrets(on, owner, fields);
    return fields.every((field) => values[field] !== undefined) ? (values as Record<Field, string>) : null;
  };
  const known = await read(database.connections);
  if (known && isGood(known)) return known;
  const made = await make();
  return transaction(database, async (tx) => {
    await lockSecrets(tx, { key: `${owner.kind}/${owner.id}/${fields.join()}` });
    const theirs = await read(tx);
    if (theirs && isGood(theirs)) return theirs;
    for (const field of fields) await writeSecret(tx, owner, field, made[field]);
    return made;
  });
}

export interface SshKey {
  /** OpenSSH's formats: what ssh2 reads, and one line for authorized_keys. */
  privateKey: string;
  publicKey: string;
  /** Tells the lines of this installation in authorized_keys from those of another. */
  comment: string;
}

/** The key that all hosts know the platform by (ed25519). */
export async function platformSshKey(database: Database): Promise<SshKey> {
  const { sshPrivateKey, sshPublicKey } = await keep(
    database,
    platformOwner,
    ['sshPrivateKey', 'sshPublicKey'],
    async () => {
      const pair = newSshKey();
      return { sshPrivateKey: pair.private, sshPublicKey: pair.public.trim() };
    },
    // A key that can not be read has let nobody in anywhere.
    (known) => isWhole({ private: known.sshPrivateKey, public: known.sshPublicKey }),
  );
  return sshKeyFrom(sshPrivateKey, sshPublicKey);
}

/** What a host's own key is kept as: the present one, the next one while it is being changed, and the one before until it is removed there. */
export const keyFields = {
  present: { privateKey: 'hostSshPrivateKey', publicKey: 'hostSshPublicKey' },
  next: { privateKey: 'nextSshPrivateKey', publicKey: 'nextSshPublicKey' },
} as const;

export const sshKeyFrom = (privateKey: string, publicKey: string): SshKey => ({
  privateKey,
  publicKey,
  comment: `belay-${createHash('sha256').update(publicKey).digest('hex').slice(0, 16)}`,
});

/** The key that a host knows the platform by: one of its own once its credentials were rotated, and before that the one of all hosts. */
export async function sshKeyOf(database: Database, hostId: string): Promise<SshKey> {
  const { privateKey, publicKey } = keyFields.present;
  const own = await readSecrets(database.connections, { kind: 'host', id: hostId }, [privateKey, publicKey]);
  const [hidden, shown] = [own[privateKey], own[publicKey]];
  return hidden && shown ? sshKeyFrom(hidden, shown) : platformSshKey(database);
}

export const isHostname = (text: string): boolean => /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/i.test(text);

const authorityName = 'Belay migration';

export async function hostAuthority(database: Database): Promise<Issued> {
  const { migrationCaCertificate, migrationCaKey } = await keep(
    database,
    platformOwner,
    ['migrationCaCertificate', 'migrationCaKey'],
    async () => {
      const { certificate, key } = await issueAuthority(authorityName);
      return { migrationCaCertificate: certificate, migrationCaKey: key };
    },
  );
  return { certificate: migrationCaCertificate, key: migrationCaKey };
}

/** The name in the certificate that notes of the audit trail are signed with. No host has it: theirs are ids. */
export const trailName = 'Belay audit trail';

/** What the head of the audit trail is signed with, and the certificate of the authority that stands behind it. */
export async function trailKey(database: Database): Promise<Issued & { caCertificate: string }> {
  const authority = await hostAuthority(database);
  const { trailCertificate, trailKey: key } = await keep(
    database,
    platformOwner,
    ['trailCertificate', 'trailKey'],
    async () => {
      const made = await issueForSigning(trailName, authority);
      return { trailCertificate: made.certificate, trailKey: made.key };
    },
  );
  return { caCertificate: authority.certificate, certificate: trailCertificate, key };
}

export interface HostCertificate {
  caCertificate: string;
  certificate: string;
  privateKey: string;
}

/**
 * A host's certificate, valid for its id and its address: for migration, and for OVN. The same one every time, so that a reconnect does not
 * restart libvirtd, until the last third of its life, or until the host has another address. It goes with the host's other secrets.
 */
export async function hostCertificate(database: Database, hostId: string, address: string): Promise<HostCertificate> {
  const authority = await hostAuthority(database);
  // libvirt as a client wants the very address of its URI among the names. The address of a simulated host is no name.
  const names = isIP(address) || isHostname(address) ? [hostId, address] : [hostId];
  const { migrationCertificate: certificate, migrationKey } = await keep(
    database,
    { kind: 'host', id: hostId },
    ['migrationCertificate', 'migrationKey'],
    async () => {
      const made = await issueCertificate(hostId, names, authority);
      return { migrationCertificate: made.certificate, migrationKey: made.key };
    },
    (known) => !endsSoon(known.migrationCertificate) && standsFor(known.migrationCertificate, names),
  );
  return { caCertificate: authority.certificate, certificate, privateKey: migrationKey };
}

async function hostsWith(database: Database, isMeant: (certificate: string) => boolean): Promise<string[]> {
  const ids: string[] = [];
  for await (const { ownerId, value } of secretsOfAll(database.connections, 'host', 'migrationCertificate'))
    if (isMeant(value)) ids.push(ownerId);
  return ids;
}

/** Hosts whose certificate should have been renewed long ago. */
export const hostsWithOverdueCertificate = (database: Database): Promise<string[]> =>
  hostsWith(database, (certificate) => endsSoon(certificate, Date.now(), 1 / 6));

/** Hosts that have a certificate for which it is time to be renewed. */
export const hostsWithEndingCertificate = (database: Database): Promise<string[]> =>
  hostsWith(database, (certificate) => endsSoon(certificate));
