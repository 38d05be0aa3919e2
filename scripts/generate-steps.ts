/** Writes generated/steps.ts: where each step works and what its undo does. So who tells of steps need not load what does them. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { descriptions } from '../activities/descriptions.ts';

const lines = Object.entries(descriptions).map(
  ([name, description]) => `  ${JSON.stringify(name)}: ${JSON.stringify(description)},`,
);
mkdirSync('generated', { recursive: true });
writeFileSync(
  'generated/steps.ts',
  `// Made from activities/ by \`npm run generate\`; change a step there, not here.
import type { System } from '../model/kind.ts';

export const steps: Readonly<Record<string, { system: System; undoText?: string }>> = {
${lines.join('\n')}
};
`,
);
