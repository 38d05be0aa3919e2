/** Resolves at the first SIGTERM or SIGINT. */
export const stopRequested = (): Promise<void> =>
  new Promise((resolve) => {
    process.once('SIGTERM', () => resolve());
    process.once('SIGINT', () => resolve());
  });
