import { createCipheriv, createDecipheriv, type KeyObject } from 'node:crypto';
import {
  AuthError,
  createKeyring,
  TokenEncryption,
  type TokenLocation,
} from '@session-gateway/keycloak-auth';
import { type Attack, type AttackKind, attacksOn, type Sealed } from '../harness/attacks.js';
import { runGoal } from '../harness/goal.js';
import type { Random } from '../harness/random.js';

type Open = (stored: string, location: TokenLocation) => string;

const CI = { v2: 50, plan: 10 };
const FULL = { v2: 500, plan: 100 };
const SIZES = [1, 2, 3, 15, 16, 17, 31, 32, 33, 511, 1024, 1536, 2048, 4096];

/** What an opener makes of the attacks: only `token_unreadable`, with one message, is a refusal. */
class Tally {
  cases = 0;
  accepted = 0;
  otherErrors = 0;
  readonly messages = new Set<string>();
  readonly byKind: Partial<Record<AttackKind, number>> = {};
  readonly examples: string[] = [];

  judge(open: Open, { kind, stored, location }: Attack): void {
    this.cases++;
    this.byKind[kind] = (this.byKind[kind] ?? 0) + 1;
    try {
      open(stored, location);
      this.accepted++;
      this.#note(`${kind} opens`);
    } catch (error) {
      if (error instanceof AuthError && error.code === 'token_unreadable')
        this.messages.add(error.message);
      else {
        this.otherErrors++;
        this.#note(`${kind}: ${String(error)}`);
      }
    }
  }

  #note(what: string): void {
    if (this.examples.length < 5) this.examples.push(what);
  }
}

await runGoal('B1', ({ random, full, progress }) => {
  // A million refusals are looked at by class, code and message; collecting their stacks would take most of the time.
  Error.stackTraceLimit = 0;
  const kids = ['k1', 'k2', 'k26b'];
  const keyring = createKeyring({
    keyText: random.text(48),
    keyringJson: JSON.stringify({
      primary: 'k2',
      keys: kids.map((kid) => ({ kid, key: random.bytes(32).toString('base64url') })),
    }),
  });
  const encryption = new TokenEncryption({ keyring, randomBytes: (size) => random.bytes(size) });
  const { planKey } = keyring;
  if (!planKey) throw new Error('the keyring has no plan key');

  const size = full ? FULL : CI;
  const v2 = Array.from({ length: size.v2 }, (_, index) => {
    const [token, location] = [tokenOf(random, index), placeOf(random)];
    return {
      token,
      location,
      stored: encryption.seal(token, location, kids[index % kids.length] ?? 'k1'),
    };
  });
  const plan = Array.from({ length: size.plan }, (_, index) => {
    const token = tokenOf(random, index);
    return { token, location: placeOf(random), stored: planSeal(planKey, random.bytes(16), token) };
  });
  const values: Sealed[] = [...v2, ...plan];
  const opened = values.filter(
    ({ stored, token, location }) => encryption.open(stored, location) === token,
  ).length;

  const tally = new Tally();
  for (const [index, value] of values.entries()) {
    for (const attack of attacksOn(value, v2.slice(0, 20), kids, random)) {
      if (attack.stored === value.stored && samePlace(attack.location, value.location))
        throw new Error(`an attack (${attack.kind}) changed nothing`);
      tally.judge((stored, location) => encryption.open(stored, location), attack);
    }
    progress(
      () =>
        `${index + 1} of ${values.length} values, ${tally.cases} cases, ${tally.accepted} accepted`,
    );
  }

  const [v2Value, planValue] = [v2[0], plan[0]];
  if (!v2Value || !planValue) throw new Error('there are no values');
  const accepted = (value: Sealed, open: Open, kind: AttackKind): number => {
    const weak = new Tally();
    for (const attack of attacksOn(value, v2.slice(0, 20), kids, random))
      if (attack.kind === kind) weak.judge(open, attack);
    return weak.accepted;
  };
  const controls = {
    'tag of any length': accepted(planValue, (stored) => weakPlanOpen(planKey, stored), 'tag cut'),
    'place not bound': accepted(
      v2Value,
      (stored) => encryption.open(stored, v2Value.location),
      'moved',
    ),
    'lenient base64url': accepted(
      v2Value,
      (stored, location) => encryption.open(respelled(stored), location),
      'respelled',
    ),
  };
  const control = Object.values(controls).reduce((sum, count) => sum + count, 0);
  const passed =
    tally.accepted === 0 &&
    tally.otherErrors === 0 &&
    tally.messages.size === 1 &&
    opened === values.length &&
    Object.values(controls).every((count) => count > 0);
  return {
    passed,
    values: values.length,
    v2: v2.length,
    plan: plan.length,
    opened,
    cases: tally.cases,
    accepted: tally.accepted,
    otherErrors: tally.otherErrors,
    distinctMessages: tally.messages.size,
    byKind: tally.byKind,
    control,
    controls,
    ...(tally.examples.length > 0 ? { examples: tally.examples } : {}),
  };
});

function tokenOf(random: Random, index: number): string {
  const length = SIZES[index] ?? Math.ceil(4096 ** (random.below(1_000_001) / 1_000_000));
  return random.chance(0.2) && length % 2 === 0 ? 'é'.repeat(length / 2) : random.text(length);
}

function placeOf(random: Random): TokenLocation {
  return {
    table: random.pick(['user_sessions', 'sessions', 'app.user_sessions']),
    column: random.pick(['access_token', 'refresh_token', 'id_token']),
    rowId: random.pick([
      `row-${random.below(1000)}`,
      random.bytes(16).toString('hex'),
      `行-${random.below(1000)}`,
    ]),
  };
}

function samePlace(a: TokenLocation, b: TokenLocation): boolean {
  return a.table === b.table && a.column === b.column && a.rowId === b.rowId;
}

function planSeal(key: KeyObject, iv: Buffer, token: string): string {
  const cipher = createCipheriv('aes-256-gcm', key, iv);
  const body = Buffer.concat([cipher.update(token, 'utf8'), cipher.final()]);
  return [iv, cipher.getAuthTag(), body].map((part) => part.toString('hex')).join(':');
}

/** The mistake this guards against: the tag is as long as whoever wrote the value says. */
function weakPlanOpen(key: KeyObject, stored: string): string {
  const [iv, tag, body] = stored.split(':').map((hex) => Buffer.from(hex, 'hex')) as [
    Buffer,
    Buffer,
    Buffer,
  ];
  const decipher = createDecipheriv('aes-256-gcm', key, iv, { authTagLength: tag.length });
  decipher.setAuthTag(tag);
  return Buffer.concat([decipher.update(body), decipher.final()]).toString('utf8');
}

function respelled(stored: string): string {
  const [version, kid, encoded = ''] = stored.split('.');
  return `${version ?? ''}.${kid ?? ''}.${Buffer.from(encoded, 'base64url').toString('base64url')}`;
}
