/** Finding one's way on the tree of commands. */
import type { Command, Option } from 'commander';

export const takesValue = (command: Command, word: string): boolean =>
  command.options.some((option) => (option.long === word || option.short === word) && option.required);

export interface Place {
  command: Command;
  operands: string[];
  /** An option whose value comes next. */
  option: Option | null;
}

/** Where on the tree these words lead. */
export function locate(program: Command, words: readonly string[]): Place {
  let command = program;
  let operands: string[] = [];
  for (let at = 0; at < words.length; at++) {
    const word = words[at] ?? '';
    if (word.startsWith('-') && word.length > 1) {
      if (!takesValue(command, word)) continue;
      at++;
      const option = command.options.find(({ long, short }) => long === word || short === word) ?? null;
      if (at >= words.length) return { command, operands, option };
      continue;
    }
    const inner = command.commands.find((candidate) => candidate.name() === word || candidate.aliases().includes(word));
    if (inner && operands.length === 0) command = inner;
    else operands = [...operands, word];
  }
  return { command, operands, option: null };
}
