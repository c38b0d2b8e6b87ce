import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject, randomBytes } from 'node:crypto';
import process from 'node:process';
import { createKeyring, TokenEncryption } from '@session-gateway/keycloak-auth';
import { runGoal } from './goal.js';
import { rounded } from './statistics.js';

const LIMIT = 1.6;
const SIZES = [512, 1536, 4096];
/** Enough for each round to pay for the garbage that it makes. */
const PER_ROUND = 2000;
const location = { table: 'user_sessions', column: 'access_token', rowId: '7f0f3c1e-3f6d-4b3f-9d0e-1a2b3c4d5e6f' };

/** Microseconds of processor time a call, garbage collection included, over one round: other programs' share of the machine is not in it. */
function timed(call: (index: number) => unknown): number {
  const before = process.cpuUsage();
  for (let i = 0; i < PER_ROUND; i++) call(i);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / PER_ROUND;
}

function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
}

/**
 * Rounds of one and the other in turn. Other programs only ever add to a round, by emptying the processor's caches: the ratio
 * is that of the least disturbed tenth of each.
 */
function compare(rounds: number, ours: (index: number) => unknown, bare: (index: number) => unknown): { ratio: number; median: number; oursMicros: number; bareMicros: number } {
  for (let i = 0; i < 5; i++) {
    timed(ours);
    timed(bare);
  }
  const pairs: { ours: number; bare: number }[] = [];
  for (let i = 0; i < rounds; i++) {
    // The order changes too: who goes second finds a warmer cache.
    if (i % 2 === 0) {
      const first = timed(ours);
      pairs.push({ ours: first, bare: timed(bare) });
    } else {
      const first = timed(bare);
      pairs.push({ ours: timed(ours), bare: first });
    }
  }
  const at = (share: number, values: number[]): number => quantile(values.sort((a, b) => a - b), share);
  const [oursMicros, bareMicros] = [at(0.1, pairs.map((pair) => pair.ours)), at(0.1, pairs.map((pair) => pair.bare))];
  return { ratio: rounded(oursMicros / bareMicros), median: rounded(at(0.5, pairs.map((pair) => pair.ours / pair.bare))), oursMicros: rounded(oursMicros), bareMicros: rounded(bareMicros) };
}

interface Bare { iv: Buffer; body: Buffer; tag: Buffer }

function bareSeal(key: KeyObject, token: string): Bare {
  const iv = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key, iv);
  const body = Buffer.concat([cipher.update(token, 'utf8'), cipher.final()]);
  return { iv, body, tag: cipher.getAuthTag() };
}

function bareOpen(key: KeyObject, { iv, body, tag }: Bare): string {
  const decipher = createDecipheriv('aes-256-gcm', key, iv, { authTagLength: 16 });
  decipher.setAuthTag(tag);
  return Buffer.concat([decipher.update(body), decipher.final()]).toString('utf8');
}

await runGoal('P5', ({ random, full, progress }) => {
  const rounds = full ? 400 : 40;
  const key = createSecretKey(random.bytes(32));
  const encryption = new TokenEncryption({
    keyring: createKeyring({ keyringJson: JSON.stringify({ primary: 'k1', keys: [{ kid: 'k1', key: random.bytes(32).toString('base64url') }] }) }),
  });
  const bySize = SIZES.map((bytes) => {
    // Tokens are base64url text, and never the same one twice in a row.
    const tokens = Array.from({ length: 64 }, () => random.bytes(Math.ceil(bytes * 0.75)).toString('base64url').slice(0, bytes));
    const token = (index: number): string => tokens[index % tokens.length] ?? '';
    const sealed = tokens.map((text) => encryption.seal(text, location));
    const bare = tokens.map((text) => bareSeal(key, text));
    const [oneSealed, oneBare] = [sealed[0], bare[0]];
    if (oneSealed === undefined || oneBare === undefined || encryption.open(oneSealed, location) !== tokens[0] || bareOpen(key, oneBare) !== tokens[0]) throw new Error('a token does not come back');
    const seal = compare(rounds, (index) => encryption.seal(token(index), location), (index) => bareSeal(key, token(index)));
    progress(() => `${bytes} bytes: seal ${seal.ratio}`);
    const opened = (index: number): string => encryption.open(sealed[index % sealed.length] ?? '', location);
    const open = compare(rounds, opened, (index) => bareSeal(key, token(index)));
    const openToBareOpen = compare(rounds, opened, (index) => bareOpen(key, bare[index % bare.length] ?? oneBare));
    progress(() => `${bytes} bytes: seal ${seal.ratio}, open ${open.ratio}`);
    return { bytes, seal, open, openToBareOpen };
  });
  // What must be caught: a seal that makes its keys ready for each value anew.
  const keyringJson = JSON.stringify({ primary: 'k1', keys: [{ kid: 'k1', key: random.bytes(32).toString('base64url') }] });
  const text = random.bytes(384).toString('base64url');
  const control = compare(3, () => new TokenEncryption({ keyring: createKeyring({ keyringJson }) }).seal(text, location), () => bareSeal(key, text)).ratio;
  const worst = (of: 'seal' | 'open' | 'openToBareOpen'): number => Math.max(...bySize.map((size) => size[of].ratio));
  const [seal, open, openToBareOpen] = [worst('seal'), worst('open'), worst('openToBareOpen')];
  return {
    passed: seal <= LIMIT && open <= LIMIT && control > LIMIT,
    seal, open, openToBareOpen, limit: LIMIT, control, sizes: SIZES, rounds, perRound: PER_ROUND, bySize,
    bare: 'randomBytes(12), createCipheriv with a ready KeyObject, update, final, concat, getAuthTag; no associated data, no text encoding of the result. Both are held to it; openToBareOpen is told beside it: the same with createDecipheriv, given the text',
  };
});
