/** How Node is started for the processes of the control plane, and for what they are compared with. */
export const nodeArguments: readonly string[] = [
  // Requests and steps leave much behind that is of no use a moment later: with little room for it, a tenth of the time goes into clearing it away.
  '--max-semi-space-size=32',
  '--import',
  new URL('preload.mjs', import.meta.url).href,
];
