import { images } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Removes an image from its store; there is no way back. Copies in pools stay: what was cloned from them lives on them. */
export const deleteImage = workflow('image.delete', async (step, { imageId }) => {
  step.commit();
  await step(images.remove, { imageId });
});
