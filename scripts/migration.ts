/** `npm run migration -- <name>`: writes the next migration from prisma/schema.prisma. */
import { relative } from 'node:path';
import { createMigration } from '../prisma/create-migration.ts';
import { missingUniqueness } from '../prisma/uniqueness.ts';

const [name] = process.argv.slice(2);
if (name === undefined) {
  console.error('usage: npm run migration -- <name>, for example: npm run migration -- add_volumes');
  process.exit(2);
}
try {
  const folder = await createMigration(name, { besides: missingUniqueness, log: console.log });
  console.log(
    folder === undefined
      ? 'the schema has not changed: no migration written'
      : `wrote ${relative(process.cwd(), folder)}/migration.sql; read it before you commit it`,
  );
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
}
