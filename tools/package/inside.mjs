import { readdir, readFile } from 'node:fs/promises';
import { createHash } from 'node:crypto';
import { join } from 'node:path';

const LICENCE_FILE = /^(licen[cs]e|notice|copying)([.-].*)?$/i;
/** The folder of the package that a file belongs to, the innermost one. */
const PACKAGE_FOLDER = /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//;

/** The packages that the files of a bundle come from: name, version, licence and folder, sorted, each once. */
export async function packagesOf(files) {
  const folders = new Set(files.flatMap((file) => PACKAGE_FOLDER.exec(file)?.[1] ?? []));
  const found = new Map();
  for (const folder of folders) {
    const { name, version, license, licenses } = JSON.parse(
      await readFile(join(folder, 'package.json'), 'utf8'),
    );
    const licence = license?.type ?? license ?? licenses?.map(({ type }) => type).join(' OR ');
    if (!licence) throw new Error(`${name} ${version} names no licence: it cannot be shipped`);
    found.set(`${name}@${version}`, { name, version, licence, folder });
  }
  return [...found.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, one]) => one);
}

/** A CycloneDX 1.6 bill of materials of the packages inside, the same for the same commit. */
export function sbom({ name, version, license, commit, committedAt }, packages) {
  const root = `pkg:generic/${name}@${version}`;
  const components = packages.map((one) => {
    const purl = `pkg:npm/${one.name.replace('@', '%40')}@${one.version}`;
    const licence = / (OR|AND|WITH) /.test(one.licence)
      ? { expression: one.licence }
      : { license: { id: one.licence } };
    return {
      type: 'library',
      'bom-ref': purl,
      name: one.name,
      version: one.version,
      purl,
      licenses: [licence],
    };
  });
  return {
    $schema: 'http://cyclonedx.org/schema/bom-1.6.schema.json',
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    serialNumber: `urn:uuid:${uuidOf(`${root}#${commit}`)}`,
    version: 1,
    metadata: {
      timestamp: committedAt.toISOString(),
      component: {
        type: 'application',
        'bom-ref': root,
        name,
        version,
        licenses: [{ license: { id: license } }],
        properties: [{ name: 'commit', value: commit }],
      },
    },
    components,
    dependencies: [{ ref: root, dependsOn: components.map((component) => component['bom-ref']) }],
  };
}

/** A UUID (version 8, RFC 9562) that follows from a text. */
function uuidOf(text) {
  const hex = createHash('sha256').update(text).digest('hex');
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    `8${hex.slice(13, 16)}`,
    `8${hex.slice(17, 20)}`,
    hex.slice(20, 32),
  ].join('-');
}

/** The licence texts of the packages inside; where a package brings none, what its package.json says. */
export async function thirdPartyNotices(packages) {
  const notices = [];
  for (const { name, version, licence, folder } of packages) {
    const files = (await readdir(folder)).filter((file) => LICENCE_FILE.test(file)).sort();
    const texts = await Promise.all(
      files.map(async (file) => (await readFile(join(folder, file), 'utf8')).trim()),
    );
    const text = texts.length > 0 ? texts.join('\n\n') : 'The package brings no licence text.';
    notices.push(`${name} ${version} (${licence})\n\n${text}\n`);
  }
  return `This program contains the following packages.\n\n${notices.join(`\n${'-'.repeat(80)}\n\n`)}`;
}
