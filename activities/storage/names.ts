/** What snapshots are called in pools; from ids alone, so that an undo never needs the result of its do. */
export const snapshotName = (snapshotId: string): string => `snap-${snapshotId}`;
/** What a volume is rolled back to when its revert is undone. */
export const safetyName = (operationId: string): string => `safety-${operationId}`;
