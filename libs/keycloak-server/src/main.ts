import { installKeycloak } from './install.js';
import { startKeycloak } from './keycloak.js';
import { renderRealm } from './realm.js';

const print = (line: string): boolean => process.stdout.write(`${line}\n`);

async function main(args: string[]): Promise<void> {
  if (args.includes('--install-only')) {
    print(await installKeycloak({ onProgress: print }));
    return;
  }
  const stopped = new Promise<'stopped'>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
      process.on(signal, () => resolve('stopped'));
  });
  await installKeycloak({ onProgress: print });
  print('starting Keycloak');
  const gatewayUrl = process.env['GATEWAY_URL'] ?? 'http://localhost:3000';
  const port = Number(process.env['KEYCLOAK_PORT'] ?? 8180);
  const starting = startKeycloak({
    port,
    hostname: 'localhost',
    gatewayUrl,
    onLog: (text) => process.stderr.write(text),
  });
  const keycloak = await Promise.race([starting, stopped]);
  // Half-started it cannot be asked to stop; it ends with this process.
  if (keycloak === 'stopped') process.exit(0);
  print(
    [
      '',
      `Keycloak is ready. Start the gateway at ${gatewayUrl} with`,
      '',
      `  KEYCLOAK_ISSUER=${keycloak.issuer}`,
      `  KEYCLOAK_CLIENT_ID=${keycloak.clientId}`,
      `  KEYCLOAK_CLIENT_SECRET=${keycloak.clientSecret}`,
      '',
      `Users (each one's password is the name): ${renderRealm()
        .users.map(({ username }) => username)
        .join(', ')}`,
      'Ctrl-C stops it; realm and sessions are then gone.',
      '',
    ].join('\n'),
  );
  const why = await Promise.race([stopped, keycloak.exited()]);
  await keycloak.stop();
  await keycloak.dispose();
  if (why !== 'stopped') throw new Error(`Keycloak ended by itself (${why.signal ?? why.code})`);
}

await main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
