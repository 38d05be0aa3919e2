/** Writes generated/workflows.ts, from which workers take all workflows: each file of an area that exports its own name is one. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';

const exported = readdirSync('workflows', { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name)
  .sort()
  .flatMap((area) =>
    readdirSync(`workflows/${area}`)
      .sort()
      .map((file) => ({ path: `workflows/${area}/${file}`, name: file.replace(/\.ts$/, '') })),
  )
  .filter(({ path, name }) =>
    new RegExp(`^export (const|(async )?function) ${name}\\b`, 'm').test(readFileSync(path, 'utf8')),
  )
  .map(({ path, name }) => `export { ${name} } from '../${path}';`);
mkdirSync('generated', { recursive: true });
writeFileSync('generated/workflows.ts', `// Made from workflows/ by \`npm run generate\`.\n${exported.join('\n')}\n`);
