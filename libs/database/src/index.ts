export { type Cache, createMemoryCache } from './cache.js';
export { DatabaseError, type DatabaseErrorCode, isStorageUnavailable } from './errors.js';
export { findPrismaDir, migrate, type Migrated } from './migrate.js';
export { type Database, type DatabaseOptions, openDatabase, type Sql } from './prisma.js';
export { createRedisCache, type RedisCacheOptions } from './redis.js';
