/**
 * Preloaded into every process: TypeScript as it is. Temporal's workflow threads map their stacks to the sources by themselves; with Node
 * doing it too, a sixth of their time would go into that.
 */
import { isMainThread } from 'node:worker_threads';
import 'tsx';

if (!isMainThread) process.setSourceMapsEnabled(false);
