import { fileURLToPath } from 'node:url';
import { defineConfig } from 'prisma/config';

// Without it every prisma command, `generate` too, tries to download the native schema engine.
process.env.PRISMA_SCHEMA_ENGINE_BINARY ??= fileURLToPath(
  new URL('./prisma/engine/schema-engine.mjs', import.meta.url),
);

const databaseUrl = process.env.DATABASE_URL;

export default defineConfig({
  schema: 'prisma/schema.prisma',
  migrations: { path: 'prisma/migrations' },
  ...(databaseUrl !== undefined && { datasource: { url: databaseUrl } }),
});
