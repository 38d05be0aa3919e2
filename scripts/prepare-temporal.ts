/**
 * `node scripts/prepare-temporal.ts`: makes the namespace and the search attributes in the Temporal Service at
 * `BELAY_TEMPORAL_ADDRESS`, and waits until they can be used. Changes nothing when they are there.
 */
import { config } from '../runtime/config.ts';
import { temporalAccess } from '../temporal/connection.ts';
import { prepareNamespace } from '../temporal/server.ts';

const { address, namespace } = config.temporal;
try {
  await prepareNamespace({ ...temporalAccess(config.temporal)(), namespace });
  console.log(`${address} is ready: namespace ${namespace} with the search attributes of Belay`);
} catch (error) {
  console.error(`${address}, namespace ${namespace}: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
