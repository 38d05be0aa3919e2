/** All workflows as they are, but for one that is as it was. */
export * from '../../../workflows/index.ts';
export { createHost } from './createHost.ts';
