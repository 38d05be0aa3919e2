/** What things are called in Ceph; from ids alone, so that an undo never needs the result of its do. */
export const volumeImage = (volumeId: string): string => `volume-${volumeId}`;
export const cachedImage = (imageId: string): string => `image-${imageId}`;
export const baseSnapshot = 'base';
export const snapshotName = (snapshotId: string): string => `snap-${snapshotId}`;
export const seedImage = (instanceId: string): string => `seed-${instanceId}`;
export const partOf = (image: string, operationId: string): string => `${image}.part-${operationId}`;
