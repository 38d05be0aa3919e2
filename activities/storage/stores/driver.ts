/** What a backup store can be asked for, whatever it is made of. One driver for each; `index.ts` has the table of them. */
import type { Readable } from 'node:stream';
import type { Database } from '../../../database/database.ts';
import type { BackupStoreType } from '../../../model/storage/backupStoreTypes.ts';

/** A store as its record has it. */
export interface StoreRecord {
  id: string;
  driver: BackupStoreType;
  revision: number;
  readOnly: boolean;
  endpoint: string;
  region: string;
  bucket: string;
  accessKey: string;
}

/** A store that is open. A key never changes its bytes. Failures are Problems: PRECONDITION_FAILED can not get better, BACKEND_UNAVAILABLE may. */
export interface ObjectStore {
  id: string;
  readOnly: boolean;

  /** It is there, and lets us in. */
  reach(): Promise<void>;
  /** Writes, reads and deletes a small object. */
  probe(key: string): Promise<void>;
  /** In bytes; null when there is no such object. */
  sizeOf(key: string): Promise<number | null>;
  put(key: string, bytes: Uint8Array): Promise<void>;
  /** An object whose length nobody knows beforehand. */
  putStream(key: string, source: Readable): Promise<void>;
  /** The whole of it; null when there is none. */
  get(key: string): Promise<Buffer | null>;
  /** So many bytes of an object from there on; fewer only at its end. */
  readRange(key: string, offset: number, length: number): Promise<Buffer>;
  /** Inside the store: no bytes travel through here. */
  copy(from: string, to: string, sizeBytes: number): Promise<void>;
  /** Neither the object nor a half-done upload of it is there. */
  discard(key: string): Promise<void>;
  /** The same of all whose keys begin so. */
  discardAll(prefix: string): Promise<void>;
  /** A URL that whoever has it may read the object by, until it expires. It is a secret: never logged, never kept. */
  readUrl(key: string, expiresInSeconds: number): Promise<string>;
}

/** @throws Problem PRECONDITION_FAILED when what opens it is not known */
export type StoreDriver = (database: Database, record: StoreRecord) => Promise<ObjectStore>;
