import {
  createCipheriv,
  createDecipheriv,
  createSecretKey,
  type KeyObject,
  randomBytes,
} from 'node:crypto';
import process from 'node:process';
import { createKeyring, TokenEncryption } from '@session-gateway/keycloak-auth';
import { runGoal } from '../harness/goal.js';
import { median, rounded } from '../harness/statistics.js';

const LIMIT = 1.6;
const SIZES = [512, 1536, 4096];
/** Enough for each round to pay for the garbage that it makes. */
const PER_ROUND = 2000;
const location = {
  table: 'user_sessions',
  column: 'access_token',
  rowId: '7f0f3c1e-3f6d-4b3f-9d0e-1a2b3c4d5e6f',
};

/** Ours and the bare one take turns in slices so short that whatever slows the processor slows both. */
const SLICE = 100;

/**
 * Microseconds of processor time for so many calls, garbage collection included: other programs' share of
 * the machine is not in it.
 */
function timed(call: (index: number) => unknown, from: number): number {
  const before = process.cpuUsage();
  for (let i = from; i < from + SLICE; i++) call(i);
  const { user, system } = process.cpuUsage(before);
  return user + system;
}

/** The median of the rounds' ratios. */
function compare(
  rounds: number,
  ours: (index: number) => unknown,
  bare: (index: number) => unknown,
): { ratio: number; oursMicros: number; bareMicros: number } {
  const round = (): { ours: number; bare: number } => {
    const sum = { ours: 0, bare: 0 };
    for (let at = 0; at < PER_ROUND; at += SLICE) {
      // The order changes too: who goes second finds a warmer cache.
      const oursFirst = (at / SLICE) % 2 === 0;
      if (oursFirst) sum.ours += timed(ours, at);
      sum.bare += timed(bare, at);
      if (!oursFirst) sum.ours += timed(ours, at);
    }
    return sum;
  };
  for (let i = 0; i < 5; i++) round();
  const sums = Array.from({ length: rounds }, round);
  return {
    ratio: rounded(median(sums.map((sum) => sum.ours / sum.bare))),
    oursMicros: rounded(median(sums.map((sum) => sum.ours / PER_ROUND))),
    bareMicros: rounded(median(sums.map((sum) => sum.bare / PER_ROUND))),
  };
}

interface Bare {
  iv: Buffer;
  body: Buffer;
  tag: Buffer;
}

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
    keyring: createKeyring({
      keyringJson: JSON.stringify({
        primary: 'k1',
        keys: [{ kid: 'k1', key: random.bytes(32).toString('base64url') }],
      }),
    }),
  });
  const bySize = SIZES.map((bytes) => {
    // Tokens are base64url text, and never the same one twice in a row.
    const tokens = Array.from({ length: 64 }, () =>
      random
        .bytes(Math.ceil(bytes * 0.75))
        .toString('base64url')
        .slice(0, bytes),
    );
    const token = (index: number): string => tokens[index % tokens.length] ?? '';
    const sealed = tokens.map((text) => encryption.seal(text, location));
    const bare = tokens.map((text) => bareSeal(key, text));
    const [oneSealed, oneBare] = [sealed[0], bare[0]];
    if (
      oneSealed === undefined ||
      oneBare === undefined ||
      encryption.open(oneSealed, location) !== tokens[0] ||
      bareOpen(key, oneBare) !== tokens[0]
    )
      throw new Error('a token does not come back');
    const seal = compare(
      rounds,
      (index) => encryption.seal(token(index), location),
      (index) => bareSeal(key, token(index)),
    );
    progress(() => `${bytes} bytes: seal ${seal.ratio}`);
    const opened = (index: number): string =>
      encryption.open(sealed[index % sealed.length] ?? '', location);
    const open = compare(rounds, opened, (index) => bareSeal(key, token(index)));
    const openToBareOpen = compare(rounds, opened, (index) =>
      bareOpen(key, bare[index % bare.length] ?? oneBare),
    );
    progress(() => `${bytes} bytes: seal ${seal.ratio}, open ${open.ratio}`);
    return { bytes, seal, open, openToBareOpen };
  });
  // What must be caught: a seal that makes its keys ready for each value anew.
  const keyringJson = JSON.stringify({
    primary: 'k1',
    keys: [{ kid: 'k1', key: random.bytes(32).toString('base64url') }],
  });
  const text = random.bytes(384).toString('base64url');
  const control = compare(
    3,
    () => new TokenEncryption({ keyring: createKeyring({ keyringJson }) }).seal(text, location),
    () => bareSeal(key, text),
  ).ratio;
  const worst = (of: 'seal' | 'open' | 'openToBareOpen'): number =>
    Math.max(...bySize.map((size) => size[of].ratio));
  const [seal, open, openToBareOpen] = [worst('seal'), worst('open'), worst('openToBareOpen')];
  return {
    passed: seal <= LIMIT && open <= LIMIT && control > LIMIT,
    seal,
    open,
    openToBareOpen,
    limit: LIMIT,
    control,
    sizes: SIZES,
    rounds,
    perRound: PER_ROUND,
    bySize,
    bare: 'randomBytes(12), createCipheriv with a ready KeyObject, update, final, concat, getAuthTag; no associated data, no text encoding of the result. Both are held to it; openToBareOpen is told beside it: the same with createDecipheriv, given the text',
  };
});
