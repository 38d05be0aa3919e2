import { saga } from '../saga.ts';
import { images } from '../steps.ts';

export interface DeleteImage {
  imageId: string;
}

/** Removes an image from its store; there is no way back. Copies in pools stay: what was cloned from them lives on them. */
export async function deleteImage({ imageId }: DeleteImage): Promise<void> {
  await saga(async (step) => {
    step.commit();
    await step(images.remove, { imageId });
  });
}
