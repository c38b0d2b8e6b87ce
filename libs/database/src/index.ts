export { type Cache, type ChangeListener, createMemoryCache } from './cache.js';
export {
  DatabaseError,
  type DatabaseErrorCode,
  isStatementFault,
  isStorageUnavailable,
} from './errors.js';
export { lockTables } from './lockTables.js';
export { lockHolder } from './lockHolder.js';
export { findPrismaDir, migrate, type Migrated } from './migrate.js';
export { keepNewest } from './keepNewest.js';
export { NearCache } from './nearCache.js';
export { clientOptions } from './connection.js';
export { databaseCommand } from './databaseCommand.js';
export { DatabaseAddressError, parseDatabaseUrl } from './databaseAddress.js';
export { parseUrl } from './parseUrl.js';
export {
  type Database,
  type DatabaseOptions,
  openDatabase,
  type Sql,
  type TransactionBounds,
} from './prisma.js';
export { openRateLimits, type RateLimit, type RateLimits } from './rateLimits.js';
export { createRedisCache, type RedisCacheOptions } from './redis.js';
export { parseRedisUrl, REDIS_URL_FORMS } from './redisAddress.js';
export { POSTGRES_TIMEOUTS, REDIS_TIMEOUTS } from './timeouts.js';
export { NEEDED_RIGHTS, storageFaults } from './storageFaults.js';
export type { Typed } from './typedClient.js';
export { weakLinks } from './weakLinks.js';
