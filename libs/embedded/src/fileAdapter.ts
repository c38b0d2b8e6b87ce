import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Adapter, AdapterConstructor, AdapterPayload } from 'oidc-provider';

interface Entry {
  payload: AdapterPayload;
  expiresAt: number | null;
}

const WRITE_AFTER_MS = 200;

/** oidc-provider's storage in one JSON file, so that restarting the gateway logs nobody out. For development only. */
export function createFileAdapter(file: string): {
  adapter: AdapterConstructor;
  flush: () => void;
} {
  const entries = new Map<string, Entry>(Object.entries(read(file)));
  let timer: NodeJS.Timeout | undefined;

  const flush = (): void => {
    clearTimeout(timer);
    timer = undefined;
    for (const [key, { expiresAt }] of entries)
      if (expiresAt !== null && expiresAt < Date.now()) entries.delete(key);
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    writeFileSync(`${file}.draft`, JSON.stringify(Object.fromEntries(entries)), { mode: 0o600 });
    renameSync(`${file}.draft`, file);
  };
  const changed = (): void => {
    timer ??= setTimeout(flush, WRITE_AFTER_MS).unref();
  };
  const live = (key: string): AdapterPayload | undefined => {
    const entry = entries.get(key);
    return entry && (entry.expiresAt === null || entry.expiresAt > Date.now())
      ? entry.payload
      : undefined;
  };

  class FileAdapter implements Adapter {
    constructor(private readonly model: string) {}

    async upsert(id: string, payload: AdapterPayload, expiresIn: number): Promise<void> {
      entries.set(`${this.model}:${id}`, {
        payload,
        expiresAt: expiresIn ? Date.now() + expiresIn * 1000 : null,
      });
      changed();
    }

    async find(id: string): Promise<AdapterPayload | undefined> {
      return live(`${this.model}:${id}`);
    }

    async findByUid(uid: string): Promise<AdapterPayload | undefined> {
      for (const [key, { payload }] of entries)
        if (key.startsWith(`${this.model}:`) && payload.uid === uid) return live(key);
      return undefined;
    }

    async findByUserCode(): Promise<undefined> {
      return undefined;
    }

    async consume(id: string): Promise<void> {
      const entry = entries.get(`${this.model}:${id}`);
      if (entry) entry.payload.consumed = Math.floor(Date.now() / 1000);
      changed();
    }

    async destroy(id: string): Promise<void> {
      entries.delete(`${this.model}:${id}`);
      changed();
    }

    async revokeByGrantId(grantId: string): Promise<void> {
      for (const [key, { payload }] of entries)
        if (payload.grantId === grantId) entries.delete(key);
      changed();
    }
  }
  return { adapter: FileAdapter, flush };
}

function read(file: string): Record<string, Entry> {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Record<string, Entry>;
  } catch {
    // Missing, or cut short by a crash: everybody logs in once more.
    return {};
  }
}
