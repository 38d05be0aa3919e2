import type { UploadedImage } from '../../activities/storage/objects.ts';
import { saga } from '../saga.ts';
import { images } from '../steps.ts';

export interface ImportImage extends UploadedImage {
  imageId: string;
}

/** Publishes the bytes that an upload has brought and checked. When it fails, neither is kept: the image waits for another upload. */
export async function importImage(image: ImportImage): Promise<void> {
  await saga(async (step) => {
    const announced = await step(images.verify, image);
    await step(images.publish, image);
    await step(images.describe, { ...image, announced });
  });
}
