import { installKeycloak } from './install.js';
import { startKeycloak } from './keycloak.js';
import { renderRealm } from './realm.js';

const print = (line: string): boolean => process.stdout.write(`${line}\n`);

async function main(args: string[]): Promise<void> {
  if (args.includes('--install-only')) {
    print(await installKeycloak({ onProgress: print }));
    return;
  }
  const wanted = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => wanted.abort());

  await installKeycloak({ onProgress: print });
  print('starting Keycloak');
  const gatewayUrl = process.env['GATEWAY_URL'] ?? 'http://localhost:3000';
  const port = Number(process.env['KEYCLOAK_PORT'] ?? 8180);
  const keycloak = await startKeycloak({ port, hostname: 'localhost', gatewayUrl, onLog: (text) => process.stderr.write(text) });
  print(
    [
      '',
      `Keycloak is ready. Start the gateway at ${gatewayUrl} with`,
      '',
      `  KEYCLOAK_ISSUER=${keycloak.issuer}`,
      `  KEYCLOAK_CLIENT_ID=${keycloak.clientId}`,
      `  KEYCLOAK_CLIENT_SECRET=${keycloak.clientSecret}`,
      '',
      `Users (each one's password is the name): ${renderRealm().users.map(({ username }) => username).join(', ')}`,
      'Ctrl-C stops it; realm and sessions are then gone.',
      '',
    ].join('\n'),
  );
  if (!wanted.signal.aborted) await new Promise((resolve) => wanted.signal.addEventListener('abort', resolve, { once: true }));
  await keycloak.stop();
  await keycloak.dispose();
}

await main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
