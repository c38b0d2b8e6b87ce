import { expect, test } from '@jest/globals';
import { readText, readYaml } from './files.js';

interface Rules {
  groups: { rules: { alert: string }[] }[];
}

test('each alert has its runbook, and each runbook its alert', () => {
  const { groups } = readYaml('deploy/prometheus/alert-rules.yaml') as Rules;
  const headings = readText('docs/operate/runbooks.md').matchAll(/^### (\w+)$/gm);
  expect([...headings].map(([, name]) => name)).toEqual(
    groups.flatMap(({ rules }) => rules.map(({ alert }) => alert)),
  );
});
