// Writes docs/integrate/openapi.json, the description of the gateway's own routes. Needs tsx: node --import tsx …
import { writeFile } from 'node:fs/promises';
import { format, resolveConfig } from 'prettier';
import { describeApi, OPERATIONS } from '../../apps/api-gateway/src/server/openapi.ts';

const FILE = 'docs/integrate/openapi.json';
const description = describeApi(Object.keys(OPERATIONS), {
  serverUrl: 'https://app.example.com',
  cookieName: '__Host-session',
});
const options = { ...(await resolveConfig(FILE)), filepath: FILE };
await writeFile(FILE, await format(JSON.stringify(description), options));
