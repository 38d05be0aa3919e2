/** Pools of files: a directory with qcow2 images, on a disk of the host or on a file system that several hosts mount. */
import type { Static } from 'typebox';
import * as Type from 'typebox';
import { change, type Of, object, question } from './call.ts';
import { foundTags, hostname, seedData, sizeGib, tags, url, uuid, word } from './fields.ts';

/** No component may begin with a dot, so that none leads up, and nothing means something to a program. */
const path = Type.String({ pattern: '^(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})+$', maxLength: 1024 });

/** Where the directory is: on the host, or on a server of NFS, whose export the agent mounts. */
export const fileRoot = Type.Union([
  object({ type: Type.Literal('local'), path }),
  /** Mounted by whoever runs the hosts, at the same path on each. */
  object({ type: Type.Literal('sharedMount'), path }),
  object({ type: Type.Literal('nfs'), server: hostname, path }),
]);
export type FileRoot = Static<typeof fileRoot>;

const pool = { poolId: uuid };
/** A volume, by its id. */
const volume = { ...pool, id: uuid };
/** What lies in a pool has a name from its id alone. */
const file = { ...volume, of: Type.Enum(['volume', 'image', 'seed']) };
export type FileAddress = Of<typeof file>;
/** The instance whose guest, on the host that is asked, may have it open: then that takes part. */
const guest = Type.Optional(uuid);
const snapshot = Type.String({ pattern: '^(snap|safety)-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' });
const count = Type.Integer({ minimum: 0 });

const room = { totalBytes: count, usedBytes: count };

/**
 * As many files lie below one at most, snapshots and what it was cloned from. A guest opens all of them, and reads what it has not written from
 * the first that has it: each costs memory and time. libvirt follows no more than 200.
 */
export const LAYERS_MAX = 64;

/** All that a pool holds, for the auditor and the tests. */
const inventory = {
  files: Type.Array(
    object({ of: file.of, id: Type.String(), sizeBytes: count, tags: foundTags, snapshots: Type.Array(Type.String()) }),
  ),
  /** The ids of volumes. */
  trash: Type.Array(Type.String()),
  parts: Type.Array(Type.String()),
};
export type FileInventory = Of<typeof inventory>;

/** For calls in which layers are joined, which copies one into another. */
const copyTimeout = { timeoutSeconds: 3_500 };
/** For one that removes files, of which some file systems free every extent before they answer. */
const removeTimeout = { timeoutSeconds: 600 };

export const calls = {
  /**
   * The host's way to the pool. With `make` its folders, and a file that says whose they are, are made where there are none; without it that file
   * must be there: a directory on which nothing is mounted is not filled.
   */
  'files.ensureConnected': change({ ...pool, root: fileRoot, make: Type.Boolean() }, room),
  'files.ensureDisconnected': change(pool),
  /** Removes folders and file, and what was not whole; INVALID_STATE while it holds anything else. */
  'files.ensurePoolAbsent': change({ ...pool, root: fileRoot }),
  'files.status': question(pool, room),

  'files.ensureVolume': change({ ...volume, sizeGib, tags }),
  /** Reads what it does not have from the image or the snapshot, which stays as long as it does. NOT_SUPPORTED above LAYERS_MAX others. */
  'files.ensureClone': change({
    ...volume,
    from: Type.Union([object({ image: uuid }), object({ volume: uuid, snapshot })]),
    sizeGib,
    tags,
  }),
  /**
   * With what was not whole yet. `onlyOperation`: only if it carries that operation's tag, and of an image no other operation's part.
   * INVALID_STATE for an image that something lives on.
   */
  'files.ensureAbsent': change({ ...file, onlyOperation: Type.Optional(word) }, {}, removeTimeout),
  /** INVALID_STATE while a guest, on whatever host, has it open; so do all that follow, unless it is the guest that they name. */
  'files.ensureSize': change({ ...volume, sizeGib, allowShrink: Type.Boolean() }),
  /**
   * Joins layers first whose snapshots went while a guest had them open. NOT_SUPPORTED above LAYERS_MAX others; one that is for safety alone may be
   * above them.
   */
  'files.ensureSnapshot': change({ ...volume, snapshot, tags, guest }, {}, copyTimeout),
  /**
   * Its layer is joined with what came after it as soon as nothing else lives on it and no guest has it open. Under the guest that is named, too,
   * unless it is what that writes to: that one is joined once the guest has ended, or when a later snapshot goes.
   */
  'files.ensureSnapshotAbsent': change({ ...volume, snapshot, guest }, {}, copyTimeout),
  'files.rollBack': change({ ...volume, snapshot }, {}, copyTimeout),
  'files.ensureTrashed': change(volume),
  'files.ensureRestored': change(volume),
  'files.ensureExpunged': change(volume, {}, copyTimeout),
  'files.inventory': question(pool, inventory),
  'files.ensureSeed': change({ ...pool, ...seedData, instanceId: uuid, tags }),
};

export const tasks = {
  /** As `image.import`, into a qcow2 image of the pool. */
  'files.import': change(
    { ...volume, url, format: Type.Enum(['raw', 'qcow2']), sha256: Type.String({ pattern: '^[0-9a-f]{64}$' }), tags },
    { virtualSizeBytes: count },
  ),
};
