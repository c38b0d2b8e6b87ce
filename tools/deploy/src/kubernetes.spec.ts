import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { readYaml, readYamlDocuments } from './files.js';
import { unknownFields } from './unknownFields.js';

const FOLDER = 'deploy/kubernetes';
/** Packages of models that are generated from the published schemas, by the end of the API group. */
const MODELS: [string, string][] = [
  ['gateway.networking.k8s.io/', '@kubernetes-models/gateway-api'],
  ['monitoring.coreos.com/', '@kubernetes-models/prometheus-operator'],
  ['', 'kubernetes-models'],
];

interface Manifest {
  apiVersion: string;
  kind: string;
}
interface Model {
  validate(): void;
}

/** What is wrong with a manifest. Throws for one of a kind that has no schema. */
async function problemsOf(manifest: Manifest): Promise<string[]> {
  const { apiVersion, kind } = manifest;
  const [, models = ''] = MODELS.find(([group]) => apiVersion.startsWith(group)) ?? [];
  const { [kind]: Kind } = (await import(`${models}/${apiVersion}/${kind}`)) as Record<
    string,
    new (manifest: Manifest) => Model
  >;
  const problems: string[] = [];
  const unknown = unknownFields(new Kind!(manifest), (model) => {
    try {
      model.validate();
    } catch (error) {
      problems.push(String(error));
    }
  });
  return [...problems, ...unknown.map((field) => `${field} is unknown`)];
}

const files = readdirSync(join(import.meta.dirname, '../../..', FOLDER), { recursive: true })
  .map(String)
  .filter((file) => file.endsWith('.yaml') && file !== 'kustomization.yaml');

describe('the manifests for Kubernetes', () => {
  test.each(files)('%s is what the published schema says', async (file) => {
    for (const manifest of readYamlDocuments(`${FOLDER}/${file}`))
      expect(await problemsOf(manifest as Manifest)).toEqual([]);
  });

  test('a misspelt field, a wrong type and an unknown kind are found', async () => {
    const [pod] = readYamlDocuments(`${FOLDER}/poddisruptionbudget.yaml`) as Manifest[];
    expect(await problemsOf({ ...pod!, spec: { maxUnavailble: 1 } } as Manifest)).toEqual([
      '/spec/maxUnavailble is unknown',
    ]);
    expect(await problemsOf({ ...pod!, spec: { selector: 'all' } } as Manifest)).toEqual([
      expect.stringContaining('/spec/selector'),
    ]);
    await expect(problemsOf({ ...pod!, kind: 'PodDisruption' })).rejects.toThrow('PodDisruption');
  });

  test('the base names every manifest but the example of a Secret', () => {
    const { resources } = readYaml(`${FOLDER}/kustomization.yaml`) as { resources: string[] };
    expect([...resources].sort()).toEqual(files.filter((file) => !file.includes('example')).sort());
  });

  test('every secret that the Deployment reads has its key in the example', () => {
    const [secret] = readYamlDocuments(`${FOLDER}/secret.example.yaml`) as {
      stringData: Record<string, string>;
    }[];
    const [deployment] = readYamlDocuments(`${FOLDER}/deployment.yaml`) as {
      spec: {
        template: { spec: { containers: { env: { name: string; value: string }[] }[] } };
      };
    }[];
    const read = deployment!.spec.template.spec.containers[0]!.env.filter(({ name }) =>
      name.endsWith('_FILE'),
    ).map(({ value }) => value.split('/').at(-1));
    expect(read).toEqual(Object.keys(secret!.stringData));
  });
});
