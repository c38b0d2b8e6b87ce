export {
  createDevelopmentProvider,
  type DevelopmentProvider,
  type DevelopmentProviderOptions,
} from './developmentProvider.js';
export { type EmbeddedPostgres, startEmbeddedPostgres } from './embeddedPostgres.js';
export { readOrCreateSecret } from './generatedSecret.js';
export {
  type PostgresBinaries,
  postgresBinaries,
  runAsUnprivileged,
  withoutRoot,
} from './postgresBinaries.js';
