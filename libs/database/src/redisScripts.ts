import type { Cluster, Redis } from 'ioredis';

/** Where changes are told: `KEY` for a burial, `VERSION KEY` for an entry that became newer. */
export const CHANGES = 'session-gateway:changes';

/** Layout of a value in Redis: version as 4 bytes big-endian, then the value. A tombstone is the empty string. */
export const VERSION_BYTES = 4;

// Compared as numbers in one step on the server: a late write must see a newer entry or a tombstone. A key of another
// type is nothing of ours and gives way; of a huge value only the version is looked at.
const PUT = `
local held = redis.call('TYPE', KEYS[1]).ok == 'string' and redis.call('GETRANGE', KEYS[1], 0, ${VERSION_BYTES - 1})
local version = struct.unpack('>I4', ARGV[1])
if held then
  if #held == 0 and redis.call('PTTL', KEYS[1]) >= 0 then return 0 end
  if #held >= 4 and struct.unpack('>I4', held) > version then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if not held or #held < 4 or struct.unpack('>I4', held) < version then redis.call('PUBLISH', '${CHANGES}', string.format('%.0f ', version) .. KEYS[1]) end
return 1`;

// A tombstone that lasts longer, perhaps another instance's, stays.
const BURY = `
if redis.call('PTTL', KEYS[1]) > tonumber(ARGV[1]) and redis.call('TYPE', KEYS[1]).ok == 'string' and redis.call('STRLEN', KEYS[1]) == 0 then return 0 end
redis.call('SET', KEYS[1], '', 'PX', ARGV[1])
redis.call('PUBLISH', '${CHANGES}', KEYS[1])
return 1`;

const REMOVE = `
if redis.call('TYPE', KEYS[1]).ok == 'string' and redis.call('STRLEN', KEYS[1]) == 0 then return 0 end
return redis.call('DEL', KEYS[1])`;

export interface Scripts {
  putNewer(key: string, value: Buffer, ttlMs: number): Promise<number>;
  buryLonger(key: string, ttlMs: number): Promise<number>;
  removeEntry(key: string): Promise<number>;
}

/** Each touches one key, as a cluster demands. */
export function withScripts(redis: Redis | Cluster): Scripts {
  for (const [name, lua] of [
    ['putNewer', PUT],
    ['buryLonger', BURY],
    ['removeEntry', REMOVE],
  ] as const)
    redis.defineCommand(name, { numberOfKeys: 1, lua });
  return redis as unknown as Scripts;
}

/** @returns null for what no script of ours publishes */
export function readChange(message: string): { key: string; version: number | null } | null {
  const [, version, key] = /^(?:(\d{1,10}) )?([!-~]+)$/.exec(message) ?? [];
  return key === undefined
    ? null
    : { key, version: version === undefined ? null : Number(version) };
}
