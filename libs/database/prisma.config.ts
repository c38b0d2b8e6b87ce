import process from 'node:process';
import { defineConfig } from 'prisma/config';

// `prisma generate` resolves (and downloads) the native schema engine although it never runs it. A stand-in path keeps
// generation offline. `migrate dev`, which does need it, is left alone.
if (process.argv.includes('generate'))
  process.env['PRISMA_SCHEMA_ENGINE_BINARY'] ??= process.execPath;

export default defineConfig({
  schema: 'prisma/schema.prisma',
  migrations: { path: 'prisma/migrations' },
  datasource: { url: process.env['DATABASE_URL'] ?? 'postgresql://localhost/unused' },
});
