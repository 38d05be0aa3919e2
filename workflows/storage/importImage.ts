import { images } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Publishes the bytes that an upload has brought and checked. When it fails, neither is kept: the image waits for another upload. */
export const importImage = workflow('image.import', async (step, image) => {
  const announced = await step(images.verify, image);
  await step(images.publish, image);
  await step(images.describe, { ...image, announced });
});
