import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

const NEEDED = 17;
let reason: string | null | undefined;

/** The Java of JAVA_HOME, else the one on the PATH. */
export function javaProgram(): string {
  const home = process.env['JAVA_HOME'];
  return home && existsSync(join(home, 'bin/java')) ? join(home, 'bin/java') : 'java';
}

/** Why no Java here can run Keycloak; null when one can. Looked for once per process. */
export function whyNoJava(): string | null {
  return (reason ??= lookForJava());
}

function lookForJava(): string | null {
  const { error, stderr } = spawnSync(javaProgram(), ['-version'], { encoding: 'utf8' });
  if (error)
    return `no java on the PATH (Keycloak needs Java ${NEEDED} or later; set JAVA_HOME or install e.g. openjdk-${NEEDED}-jdk-headless)`;
  const major = Number(/version "(\d+)/.exec(stderr)?.[1] ?? 0);
  return major < NEEDED
    ? `java is version ${major}, Keycloak needs ${NEEDED} or later (set JAVA_HOME)`
    : null;
}
