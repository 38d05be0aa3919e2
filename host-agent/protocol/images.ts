/** Images in a pool: disks, their snapshots, seeds, and what is fetched from outside. */
import * as Type from 'typebox';
import { change, type Of, object, question } from './call.ts';
import { foundTags, image, name, pool, seedData, sizeGib, tags, url, word } from './fields.ts';

const count = Type.Integer({ minimum: 0 });

/** All that a pool holds, for the auditor and the tests. */
const inventory = {
  images: Type.Array(
    object({
      name: Type.String(),
      sizeBytes: count,
      tags: foundTags,
      snapshots: Type.Array(Type.String()),
      watchers: count,
    }),
  ),
  trash: Type.Array(object({ id: Type.String(), name: Type.String() })),
};
export type PoolInventory = Of<typeof inventory>;

/** Ceph copies every object that changed since, and removes every object of a large image: minutes. */
const everyObject = { timeoutSeconds: 3_500 };

export const calls = {
  'rbd.ensureImage': change({ ...image, sizeGib, tags }),
  /** Copy-on-write clone of a snapshot, grown to `sizeGib`. */
  'rbd.ensureClone': change({ ...image, from: object({ pool: name, image: name, snapshot: name }), sizeGib, tags }),
  /** Removes the image with all its snapshots that have no clone. `onlyOperation`: only if it carries that operation's tag. */
  'rbd.ensureImageAbsent': change({ ...image, onlyOperation: Type.Optional(word) }),
  /** Grows; shrinks only with `allowShrink` (the undo of a growth that nobody used). */
  'rbd.ensureSize': change({ ...image, sizeGib, allowShrink: Type.Boolean() }),
  'rbd.ensureSnapshot': change({ ...image, snapshot: name, tags }),
  /** While clones live on it, Ceph keeps its data out of sight until the last of them goes. */
  'rbd.ensureSnapshotAbsent': change({ ...image, snapshot: name }),
  'rbd.rollBack': change({ ...image, snapshot: name }, {}, everyObject),
  /** Moves the image into the pool's trash under its own name, and back. Idempotent both ways. */
  'rbd.ensureTrashed': change(image),
  'rbd.ensureRestored': change(image),
  /** Removes it for good, from the trash or from the pool. */
  'rbd.ensureExpunged': change(image, {}, everyObject),
  'rbd.watchers': question(image, { addresses: Type.Array(Type.String()) }),
  'rbd.inventory': question(pool, inventory),

  /** NoCloud seed as an RBD image of ISO 9660, label `cidata`. User data is a secret of the tenant. */
  'seed.ensure': change({
    ...image,
    tags,
    ...seedData,
  }),
};

export const tasks = {
  /**
   * Fetches a disk image over HTTP, checks sha256 and format (no backing file, no data file), writes it as raw into
   * `<image>.part-<operation>`, renames it to `image`, snapshots `base` and protects it. Already there: nothing happens.
   */
  'image.import': change(
    {
      ...image,
      url,
      format: Type.Enum(['raw', 'qcow2']),
      sha256: Type.String({ pattern: '^[0-9a-f]{64}$' }),
      tags,
    },
    { virtualSizeBytes: count },
  ),
};
