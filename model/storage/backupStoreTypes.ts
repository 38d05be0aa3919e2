/** What a type of backup store can keep. What it can not is refused with NOT_SUPPORTED. */
export interface BackupStoreCan {
  /** Images: hosts fetch them from it by a URL that expires. */
  images: boolean;
  /** What Belay writes for itself: notes of the audit trail, archives of what is old. */
  exports: boolean;
}

/** What is said of a type without the ability. */
export const storeInability: Record<keyof BackupStoreCan, string> = {
  images: 'keeps no images: hosts can not fetch from it',
  exports: 'keeps nothing that Belay writes for itself',
};

/** The types of backup store that there are. For each there is a driver in `activities/storage/stores/`. */
export const backupStoreTypes = {
  /** A bucket of whatever speaks S3. */
  s3: { can: { images: true, exports: true } },
} as const satisfies Record<string, { can: BackupStoreCan }>;

export type BackupStoreType = keyof typeof backupStoreTypes;
export const backupStoreTypeNames = Object.keys(backupStoreTypes) as [BackupStoreType, ...BackupStoreType[]];

export const backupStoreTypesThat = (ability: keyof BackupStoreCan): BackupStoreType[] =>
  backupStoreTypeNames.filter((type) => backupStoreTypes[type].can[ability]);
