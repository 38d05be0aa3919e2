import type { Begin } from './progress.mjs';

export type PinnedMajor = '22' | '24';
export declare const OLDEST_NODE: readonly [number, number];
export declare const pinnedNodes: Readonly<Record<PinnedMajor, { version: string; sha512: string }>>;
export declare const nodeArguments: readonly string[];
export declare const nodeEnvironment: Readonly<Record<string, string>>;
export declare function isNewEnough(version: string, oldest?: readonly [number, number]): boolean;
export declare function nodeCommand(): string;
export declare function ensureNode(begin?: Begin): Promise<string>;
export declare function fetchNode(major: PinnedMajor, begin?: Begin): Promise<string>;
