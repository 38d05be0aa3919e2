import { make } from '../../lab/provision.ts';
import type { JoinedCloud } from './cloud.ts';

/** Makes a pool of files on a shared mount, which can shut nobody out, and a type of volumes there. Answers the id of the type. */
export async function sharedFiles({ admin, cloud }: JoinedCloud, name: string): Promise<string> {
  const { storageClass } = await make(admin, 'storage-pools', {
    name,
    type: 'sharedMount',
    storageClass: name,
    source: { path: `/srv/${name}` },
    clusterIds: [cloud.cluster.id],
  });
  return (await admin.call('POST', '/v1/volume-types', { name, storageClass, visibility: 'public' })).id;
}
