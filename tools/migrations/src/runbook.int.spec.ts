import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Database } from '@session-gateway/database';
import { freePort, startPostgres, type TestPostgres, until } from '@session-gateway/testkit';
import ts from 'typescript';
import { VERBS } from './control.js';
import * as h from './testing/jobHarness.js';

const RUNBOOK = join(h.ROOT, 'docs/operate/encrypt-tokens.md');
const JOB = 'npx nx run migrations:encrypt-tokens';
/** Commands of other programs, which their own suites run, and one that stands for all. */
const OTHERS =
  /^(npx nx run (database:migrate|migrations:build)|node dist|pg_dump|VACUUM|SELECT|GRANT)|\[flags\]/;

/** What stands between backticks, the table of messages left out. */
const spans = (text: string): string[] =>
  [...(text.split('## Messages')[0] ?? '').matchAll(/`([^`]+)`/g)].map(([, span = '']) =>
    span.replace(/\s+/g, ' '),
  );

/** The job's command lines among them, without the program's name: whole ones, and flags, which an execution takes. */
function commandLines(text: string): string[][] {
  const lines = spans(text)
    .filter((span) => !OTHERS.test(span))
    .flatMap((span) => {
      if (span.startsWith(JOB)) return [words(span.slice(JOB.length))];
      if (span.startsWith('encrypt-tokens -- '))
        return [words(span.slice('encrypt-tokens'.length))];
      if (!/^--( |[a-z])/.test(span)) return [];
      const given = words(span);
      return [
        VERBS.some((verb) => verb === given[0]) ||
        given.some((word) => /^--(execute|verify|help|dry-run|finalize)$/.test(word))
          ? given
          : ['--execute', ...given],
      ];
    });
  // Each once, where it stands first.
  return [...new Map(lines.map((line) => [line.join(' '), line])).values()];
}

const words = (line: string): string[] =>
  line
    .trim()
    .split(' ')
    .filter((word, index) => word !== '' && !(index === 0 && word === '--'));

/** Processes of the job that hold the table. */
const JOINED = `SELECT DISTINCT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND mode = 'ShareLock'`;

describe('the runbook', () => {
  let postgres: TestPostgres;
  let folder: string;
  let db: Database;
  let env: Record<string, string>;
  beforeAll(async () => {
    postgres = await startPostgres();
    folder = await mkdtemp(join(tmpdir(), 'job-runbook-'));
    const url = await h.newDatabase(postgres);
    db = h.open(url);
    env = { ...h.ENV, DATABASE_URL: url };
    await h.insertRows(
      db,
      h.mixedRows(200, () => 0.99),
    );
    for (const table of [
      'CREATE TABLE "UserSession" (id text PRIMARY KEY, "accessToken" text, "refreshToken" text, "idToken" text)',
      'CREATE TABLE account (id text PRIMARY KEY, "accessToken" text, "refreshToken" text, "idToken" text)',
      'CREATE TABLE accounts (id text PRIMARY KEY, access_token text, refresh_token text, id_token text)',
      'CREATE TABLE "Account" (provider text, "providerAccountId" text, access_token text, refresh_token text, id_token text, PRIMARY KEY (provider, "providerAccountId"))',
    ])
      await db.sql.query(table);
  });
  afterAll(async () => {
    h.killJobs();
    await db?.close();
    await postgres?.dispose();
    await rm(folder, { recursive: true, force: true });
  });

  /** A run that is at work for long enough to be steered. */
  async function underWay(): Promise<{ job: h.RunningJob; id: string }> {
    const job = h.startJob(
      [
        '--execute',
        '--restart',
        '--chunk-size',
        '5',
        '--max-rows-per-second',
        '5',
        '--workers',
        '2',
      ],
      env,
    );
    const id = await until(() => /^run (\S+)/m.exec(job.stderr())?.[1], {
      timeoutMs: 60_000,
      what: 'a run',
    });
    return { job, id };
  }

  test('every command in it does what it is there for', async () => {
    const lines = commandLines(await readFile(RUNBOOK, 'utf8'));
    expect(lines.length).toBeGreaterThan(25);
    const failed: string[] = [];
    const port = await freePort();
    for (const [index, line] of lines.entries()) {
      const run = line.some((word) => word.includes('<run>')) ? await underWay() : null;
      const stopFirst = async (): Promise<void> => {
        run?.job.child.kill('SIGTERM');
        await run?.job.exited;
      };
      // What is to go on must have been stopped; whatever else is done to a run is done to one at work.
      if (line.includes('--resume')) await stopFirst();
      const file = join(folder, `evidence-${index}.json`);
      const args = line.map((word) =>
        word
          .replace('<run>', run?.id ?? '')
          .replace('<kid>', 'k26b')
          .replace('evidence.json', file)
          .replace('9187', String(port)),
      );
      if (args[0] === 'check-report') await h.runJob(['--report', file], env);
      const command = h.startJob(args, env);
      // Who has joined a run does the rest of it.
      if (args.includes('--join'))
        await until(async () => (await db.sql.query(JOINED)).length > 1, {
          timeoutMs: 60_000,
          what: 'the one who joins',
        }).then(stopFirst);
      const exit = await command.exited;
      if (exit.code !== 0)
        failed.push(`${args.join(' ')}: ${exit.code} ${exit.stderr.slice(-300)}`);
      await stopFirst();
    }
    expect(failed).toEqual([]);
  }, 400_000);

  test('every message in it is one that the code has', async () => {
    const code = (await Promise.all((await sources()).map((file) => readFile(file, 'utf8'))))
      .join('\n')
      .replaceAll("\\'", "'")
      .replaceAll('\\`', '`');
    const messages = await explainedMessages();
    expect(messages.length).toBeGreaterThan(25);
    // Capital letters, numbers and dots stand for what differs from time to time: some words in
    // a row must be the code's.
    const found = (message: string): boolean =>
      fixedParts(message).some(
        (said) => said.join('').length > 4 && rowsOf(said).some((row) => code.includes(row)),
      );
    expect(messages.filter((message) => !found(message))).toEqual([]);
    expect(found('a message that nobody has ever written')).toBe(false);
  });

  test('every message that the job has is in it', async () => {
    const explained = await explainedMessages();
    const said = (
      await Promise.all((await sources()).filter((file) => JOB_ONLY.test(file)).map(messagesOf))
    ).flat();
    expect(said.length).toBeGreaterThan(60);
    const isExplained = (message: string): boolean =>
      explained.some(
        (known) =>
          patternOf(known).test(message) ||
          fixedParts(known).some(
            (part) => part.length > 3 && rowsOf(part).some((row) => message.includes(row)),
          ),
      );
    expect(said.filter((message) => !isExplained(message))).toEqual([]);
    expect(
      ['a message that nobody has ever written', 'no such thing', '…: nothing'].filter(isExplained),
    ).toEqual([]);
  });
});

/** All of the job, and none of the program beside it that manages keys. */
const JOB_ONLY = /tools\/migrations\/src\/(?!keys|keyList|keyringDocument|inspect)[^/]*$/;
/** What speaks to an operator: calls, and errors whose message is shown. */
const SPEAKS =
  /^(note|say|push|UsageError|KeyError|TableError|RunHeldError|UnknownRunError|FencedError|UnknownKidError|TooManyUnreadableError|ReportError)$/;

/** The messages of the table, between backticks. */
async function explainedMessages(): Promise<string[]> {
  const table = (await readFile(RUNBOOK, 'utf8')).split('## Messages')[1] ?? '';
  return table
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .flatMap((line) =>
      [...(line.split(' | ')[0] ?? '').matchAll(/`([^`]+)`/g)].map(([, text = '']) => text),
    );
}

/** What a message says each time, in words. */
const fixedParts = (message: string): string[][] =>
  message.split(/…|[;:,]|\b[A-Z]\b|\d+/).map((piece) =>
    piece
      .trim()
      .split(' ')
      .filter((word) => word !== ''),
  );
const rowsOf = (words: readonly string[]): string[] =>
  words.flatMap((_, at) =>
    at + Math.min(4, words.length) <= words.length
      ? [words.slice(at, at + Math.min(4, words.length)).join(' ')]
      : [],
  );
/** How a message begins that is explained so. */
const patternOf = (known: string): RegExp =>
  new RegExp(
    `^${known
      .split(/…|\b[A-Z]\b|\b\d+\b/)
      .map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
      .join('.*')}`,
  );

/** By what name something is called; empty for an expression that has none. */
function nameOf(called: ts.Expression): string {
  if (ts.isPropertyAccessExpression(called)) return called.name.text;
  return ts.isIdentifier(called) ? called.text : '';
}

/** The messages in a source file, with dots for what differs; of a choice between texts each. */
async function messagesOf(file: string): Promise<string[]> {
  const source = ts.createSourceFile(file, await readFile(file, 'utf8'), ts.ScriptTarget.Latest);
  const found: string[] = [];
  const texts = (node: ts.Node): void => {
    if (ts.isStringLiteral(node) || ts.isNoSubstitutionTemplateLiteral(node)) found.push(node.text);
    else if (ts.isTemplateExpression(node))
      found.push(
        [node.head.text, ...node.templateSpans.map(({ literal }) => literal.text)].join('…'),
      );
    else if (ts.isPropertyAssignment(node)) texts(node.initializer);
    else ts.forEachChild(node, texts);
  };
  const visit = (node: ts.Node): void => {
    if (ts.isCallExpression(node) || ts.isNewExpression(node)) {
      if (SPEAKS.test(nameOf(node.expression))) node.arguments?.forEach(texts);
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  // Single words are values, not messages.
  return found.filter((text) => text.replaceAll('…', '').trim().includes(' '));
}

async function sources(): Promise<string[]> {
  const folders = [
    'tools/migrations/src',
    'libs/database/src',
    'libs/keycloak-authV2/src',
    'libs/keycloak-authV2/src/services/encryption',
    'libs/keycloak-authV2/src/services/keys',
  ].map((folder) => join(h.ROOT, folder));
  return (
    await Promise.all(
      folders.map(async (folder) =>
        (await readdir(folder))
          .filter((name) => name.endsWith('.ts') && !name.includes('.spec.'))
          .map((name) => join(folder, name)),
      ),
    )
  ).flat();
}
