import type { ChildProcess } from 'node:child_process';

export interface Part {
  /** How far it is, between 0 and 1. */
  at(fraction: number): void;
  /** It is done; the line says how long it took. */
  end(note?: string): void;
  /** It is not shown any longer, and nothing is said of it. */
  drop(): void;
}
/** `seconds`: how long it takes on two cores, for as long as nothing better is known. */
export type Begin = (what: string, options?: { seconds?: number }) => Pick<Part, 'end'> & Partial<Part>;
export interface Board {
  say(line: string): void;
  begin(what: string, options?: { seconds?: number }): Part;
}
export declare function openBoard(stream?: NodeJS.WriteStream): Board;
export declare function boardOf(say: (line: string) => void): Board;
export declare function relay(child: ChildProcess, board: Board): void;
