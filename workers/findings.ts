/** How many findings are open, for the alerts. */
import type { Database } from '../database/database.ts';
import { openFindings } from '../database/findings.ts';
import { metrics } from '../runtime/metrics.ts';

export async function countFindings(database: Database): Promise<void> {
  const counts = await openFindings(database.connections);
  metrics.findings.reset();
  for (const { class: sort, severity, count } of counts)
    metrics.findings.labels(String(sort), severity).set(Number(count));
}
