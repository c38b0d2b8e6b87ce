import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse, parseAllDocuments } from 'yaml';

export const ROOT = join(import.meta.dirname, '../../..');

/** A file of the repository, by its path from the root. */
export const readText = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

/** The one document of a YAML file. */
export const readYaml = (path: string): unknown => parse(readText(path));

/** Every document of a YAML file. */
export function readYamlDocuments(path: string): unknown[] {
  return parseAllDocuments(readText(path)).map((document): unknown => {
    if (document.errors[0]) throw document.errors[0];
    return document.toJS() as unknown;
  });
}
