import { Type } from 'typebox';
import { pattern } from '../forms.ts';
import { boolean, choice, field, instant, integer, kind, object, oneOf, ref, text } from '../kind.ts';

export const image = kind({
  name: 'image',
  plural: 'images',
  area: 'storage',
  scope: 'project',
  summary: 'A template of a root volume',
  catalogue: true,
  fields: {
    zoneId: ref('zone', 'create!'),
    type: choice(['root'], 'create', { default: 'root' }),
    format: choice(['raw', 'qcow2'], 'create', { description: 'Detected from the bytes when not given' }),
    checksum: field(
      Type.String({ pattern: pattern('^[0-9a-f]{64}$', 'must be a SHA-256 in 64 lowercase hexadecimal digits') }),
      'create',
      {
        description: 'sha256; verified when given, computed else',
      },
    ),
    backupStoreId: ref('backupStore', 'create', { description: "The zone's only store when not given" }),
    architecture: choice(['x86_64', 'aarch64'], 'create', { default: 'x86_64' }),
    minSizeGib: integer(1, 65_536, 'system'),
    minMemoryMib: integer(64, 1_048_576, 'patch'),
    firmware: choice(['bios', 'uefi'], 'create', { default: 'bios' }),
    visibility: choice(['public', 'private'], 'patch', { default: 'private', operatorOnly: ['public'] }),
    enabled: boolean('patch', { default: true }),
    sizeBytes: integer(0, Number.MAX_SAFE_INTEGER, 'system'),
    objectKey: text(256, 'system'),
    deleteProtection: boolean('patch', { default: false }),
    uploadExpiresAt: instant('system', {
      description: 'By then its bytes must be on their way; an image without is deleted',
    }),
  },
  states: ['awaitingUpload', 'importing', 'ready', 'deleting', 'failed'],
  actions: {
    create: {
      summary: 'Announce an image; then PUT its bytes to `/v1/images/{id}/content`',
      mode: 'sync',
      to: 'awaitingUpload',
    },
    import: {
      summary: 'Check and publish the uploaded bytes; started by the upload itself',
      happened: 'imported',
      asked: 'upload',
      starts: true,
      mode: 'operation',
      from: ['awaitingUpload'],
      via: 'importing',
      to: 'ready',
      cancellable: true,
      tells: object({
        // Imports that began before uploads had ids have none.
        uploadId: Type.Optional(Type.String()),
        sizeBytes: Type.Integer(),
        sha256: Type.String(),
        format: oneOf('raw', 'qcow2'),
        virtualSizeBytes: Type.Integer(),
      }),
      steps: ['images.verify', 'images.publish', 'images.describe'],
    },
    update: { summary: 'Change an image', mode: 'sync' },
    delete: {
      summary: 'Remove an image; running clones keep their cached copy',
      mode: 'operation',
      lock: 'D',
      from: ['ready', 'awaitingUpload'],
      via: 'deleting',
      to: 'deleted',
      pointOfNoReturn: 'images.remove',
      steps: ['images.remove'],
    },
  },
});
