import { createServer } from 'node:http';
import { freePort, type Secret, tokenSecrets } from '@session-gateway/testkit';

export interface Recorder {
  /** Where the provider is reached through it. */
  readonly url: string;
  /** All that passed and must be found nowhere else. */
  readonly secrets: Map<string, Secret>;
  close(): void;
}

const REQUEST_SECRETS = ['code', 'code_verifier', 'client_secret', 'refresh_token', 'token'];
const ANSWER_SECRETS = ['access_token', 'refresh_token', 'id_token'];

/** Stands between gateway and provider, and remembers every secret that passes. */
export async function startRecorder(providerOrigin: string): Promise<Recorder> {
  const secrets = new Map<string, Secret>();
  const keep = (name: string, value: string | null): void => {
    if (value)
      for (const secret of name.endsWith('_token') ? tokenSecrets(name, value) : [{ name, value }])
        secrets.set(secret.value, secret);
  };
  const port = await freePort();
  const server = createServer((request, response) => {
    const pieces: Buffer[] = [];
    request
      .on('data', (piece: Buffer) => pieces.push(piece))
      .on('end', () => {
        const body = Buffer.concat(pieces);
        const form = new URLSearchParams(body.toString());
        for (const name of REQUEST_SECRETS)
          keep(name === 'token' ? 'refresh_token' : name, form.get(name));
        keep(
          'basic credentials',
          /^Basic (.+)$/.exec(request.headers.authorization ?? '')?.[1] ?? null,
        );
        const headers = Object.fromEntries(
          Object.entries(request.headers).flatMap(([name, value]) =>
            typeof value === 'string' &&
            !['host', 'connection', 'content-length', 'transfer-encoding'].includes(name)
              ? [[name, value]]
              : [],
          ),
        );
        fetch(providerOrigin + (request.url ?? ''), {
          method: request.method ?? 'GET',
          headers,
          redirect: 'manual',
          ...(body.length > 0 ? { body } : {}),
        })
          .then(async (answer) => {
            const text = await answer.text();
            if (text.startsWith('{')) {
              try {
                const parsed = JSON.parse(text) as Record<string, unknown>;
                for (const name of ANSWER_SECRETS)
                  keep(name, typeof parsed[name] === 'string' ? parsed[name] : null);
              } catch {
                // A provider that is broken on purpose.
              }
            }
            const type = answer.headers.get('content-type');
            response
              .writeHead(answer.status, type === null ? {} : { 'content-type': type })
              .end(text);
          })
          .catch(() => response.destroy());
      });
  });
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${port}`,
    secrets,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
