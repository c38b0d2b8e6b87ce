import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

/** How a child ended: its exit code, or the signal that ended it. */
export interface ChildExit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

export interface Child {
  readonly pid: number;
  /** The end of what it wrote to stdout and to stderr so far, in order of arrival. */
  readonly output: () => string;
  readonly stdout: () => string;
  readonly stderr: () => string;
  /** Null while it runs. */
  exit(): ChildExit | null;
  readonly exited: Promise<ChildExit>;
  /** False when it is gone already. */
  readonly signal: (name: NodeJS.Signals) => boolean;
}

export interface ChildOptions {
  env?: NodeJS.ProcessEnv;
  cwd?: string;
  /** Runs it as this user; needs root. */
  user?: { uid: number; gid: number } | undefined;
  /** The descriptor that is its standard output; what it writes there is not kept then. */
  stdout?: number | undefined;
  /** Told each piece of output as it arrives. */
  onOutput?: (text: string) => void;
  /** What ends the child when this process dies without ending it. */
  guardSignal?: 'KILL' | 'QUIT' | 'TERM';
  /** A temporary folder of the child's, removed when this process dies without ending it. */
  tempFolder?: string;
}

/** What is kept of a child's output: enough to explain a failed start. */
const KEPT_CHARACTERS = 2_000_000;

/**
 * A line on stdin disarms it; the end of stdin, which is the death of the parent however it died, makes it end the
 * child (thawed first, with its own children, or it could not act on the signal) and remove the child's folder.
 */
const GUARD = `
if read -r _; then exit 0; fi
kill -CONT $1 $(cat /proc/$1/task/$1/children 2>/dev/null) 2>/dev/null
kill -$2 $1 2>/dev/null
tries=0
while kill -0 $1 2>/dev/null && [ $tries -lt 100 ]; do tries=$((tries+1)); sleep 0.1; done
[ -z "$3" ] || rm -rf -- "$3"
`;

/**
 * Starts a program that cannot outlive this process. An exit listener would not do: it does not run at SIGKILL, and a
 * test environment's `process` is a copy that never emits `exit`. Throws when the program cannot be started.
 */
export async function startChild(
  command: string,
  args: string[],
  options: ChildOptions = {},
): Promise<Child> {
  const child = spawn(command, args, {
    stdio: ['ignore', options.stdout ?? 'pipe', 'pipe'],
    env: options.env ?? process.env,
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...options.user,
  });
  const kept = { stdout: '', stderr: '', both: '' };
  const keep = (stream: 'stdout' | 'stderr') => (text: string) => {
    kept[stream] = (kept[stream] + text).slice(-KEPT_CHARACTERS);
    kept.both = (kept.both + text).slice(-KEPT_CHARACTERS);
    options.onOutput?.(text);
  };
  child.stdout?.setEncoding('utf8').on('data', keep('stdout'));
  child.stderr?.setEncoding('utf8').on('data', keep('stderr'));

  let exit: ChildExit | null = null;
  const exited = new Promise<ChildExit>((resolve) => {
    child.once('exit', (code, signal) => (exit = { code, signal }));
    // `close` comes after `exit`, with all output read; a grandchild that keeps the pipes open must not delay the news.
    child.once('close', () => resolve(exit ?? { code: null, signal: null }));
    child.once('exit', () =>
      setTimeout(() => resolve(exit ?? { code: null, signal: null }), 250).unref(),
    );
  });
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', (cause) => reject(new Error(`cannot start ${command}`, { cause })));
  });
  const pid = child.pid as number;
  const disarm = guard(pid, options.guardSignal ?? 'KILL', options.tempFolder);
  child.once('exit', disarm);

  return {
    pid,
    exited,
    output: () => kept.both,
    stdout: () => kept.stdout,
    stderr: () => kept.stderr,
    exit: () => exit,
    signal: (name) => exit === null && child.kill(name),
  };
}

function guard(pid: number, signal: string, folder = ''): () => void {
  const shell = spawn('/bin/sh', ['-c', GUARD, 'guard', String(pid), signal, folder], {
    stdio: ['pipe', 'ignore', 'ignore'],
    cwd: '/',
    // Its own process group: Ctrl-C in the terminal must not end the guard before the child.
    detached: true,
  });
  shell.on('error', () => undefined);
  shell.stdin.on('error', () => undefined);
  shell.unref();
  (shell.stdin as unknown as { unref?: () => void }).unref?.();
  return () => shell.stdin.end('\n');
}

/** The processes whose parent is `pid`, from /proc; none where there is no /proc. */
export function childrenOf(pid: number): number[] {
  let names: string[];
  try {
    names = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  } catch {
    return [];
  }
  return names.map(Number).filter((candidate) => parentOf(candidate) === pid);
}

function parentOf(pid: number): number | null {
  try {
    // `pid (name) state ppid …`; the name may hold spaces and parentheses, so count from the last one.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ');
    return Number(fields?.[1]);
  } catch {
    return null;
  }
}

/** True while the process exists and is not merely waiting to be collected by its parent. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.[0] !== 'Z';
  } catch {
    return process.platform !== 'linux';
  }
}

/** Signals a process by id; false when it is gone. */
export function signalPid(pid: number, name: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, name);
  } catch {
    return false;
  }
}
