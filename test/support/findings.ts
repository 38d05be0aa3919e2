/** Findings that a test has without anything being wrong. */
import { openClient } from './postgres.ts';

export interface Repair {
  action: string;
  targetId: string;
  input: object;
}

/** An open finding about a security group. */
export async function openFinding(databaseUrl: string, repair: Repair): Promise<string> {
  const client = await openClient(databaseUrl);
  try {
    const { rows } = await client.query<{ id: string }>(
      `INSERT INTO "finding" (id, class, what, "resourceKind", "resourceId", repair, state, "updatedAt")
       VALUES (gen_random_uuid(), 'drifted', 'groupRows', 'securityGroup', $1, $2, 'open', now()) RETURNING id`,
      [repair.targetId, JSON.stringify(repair)],
    );
    return rows[0]?.id ?? '';
  } finally {
    await client.end();
  }
}
