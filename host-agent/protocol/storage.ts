/** Storage clusters: how a host reaches one, and their administration. */
import * as Type from 'typebox';
import { change, type Of, object, question } from './call.ts';
import { base64, ipAddress, name, orNull, pool, tags, uuid } from './fields.ts';

const monitor = Type.String({
  pattern: '^(\\[[0-9A-Fa-f:]+\\]|[0-9A-Za-z][0-9A-Za-z.-]*)(:[0-9]{1,5})?$',
  maxLength: 260,
});

/** How to reach a Ceph cluster with one user's rights. `key` is a secret: never logged, never kept by a workflow. */
const cephAccess = {
  storageClusterId: uuid,
  monitors: Type.Array(monitor, { minItems: 1, maxItems: 16 }),
  fsid: uuid,
  /** Without the `client.` prefix. */
  user: name,
  key: base64,
};
export type CephAccess = Of<typeof cephAccess>;

/** The administrator's key is in the request and nowhere else. */
const access = object(cephAccess);
const count = Type.Integer({ minimum: 0 });
const addresses = Type.Array(ipAddress, { maxItems: 64 });

export const calls = {
  /** ceph.conf, keyring and libvirt secret (uuid = storageClusterId) for one cluster. */
  /** Answers the addresses under which the cluster knows this host. */
  'storage.ensureConnected': change(cephAccess, { addresses: Type.Optional(addresses) }),
  'storage.ensureDisconnected': change({ storageClusterId: uuid }),

  'ceph.status': question(
    { access },
    {
      fsid: uuid,
      version: Type.String(),
      health: Type.Enum(['ok', 'warn', 'error']),
      totalBytes: count,
      usedBytes: count,
      osds: object({ total: count, up: count, in: count }),
    },
  ),
  /** A user with `profile rbd` on the named pools only. Answers its key; the same user keeps its key. */
  'ceph.ensureUser': change({ access, user: name, pools: Type.Array(name, { maxItems: 256 }) }, { key: base64 }),
  'ceph.ensureUserAbsent': change({ access, user: name }),
  /** All clients at these addresses are shut out for good, when this answers: whatever they still send is refused. */
  'ceph.ensureFenced': change({ access, addresses }),
  /** Clients that open anew are let in again; those that were shut out stay so. */
  'ceph.ensureUnfenced': change({ access, addresses }),
  /** The addresses that are shut out as a whole. */
  'ceph.fenced': question({ access }, { addresses: Type.Array(Type.String()) }),
  /** Writes something into the pool, and takes it away again. */
  'rbd.proveWritable': change(pool),
  /** CRUSH rule by device class, pool with the rbd application. `made` says whether this operation made it. */
  'ceph.ensurePool': change(
    {
      access,
      pool: name,
      deviceClass: orNull(name),
      replicas: Type.Integer({ minimum: 1, maximum: 10 }),
      failureDomain: Type.Enum(['osd', 'host']),
      tags,
    },
    { made: Type.Boolean() },
  ),
  /** Removes the pool (and a rule of its own) only when it carries this `tags.id` and holds no image. */
  'ceph.ensurePoolAbsent': change({ access, pool: name, tags }),
  'ceph.poolStatus': question({ access, pool: name }, { totalBytes: count, usedBytes: count, objects: count }),
};
