/** Something that must not be found outside of where it belongs. */
export interface Secret {
  readonly name: string;
  readonly value: string;
}

/** A token, and each of its parts that alone would be of use. */
export function tokenSecrets(name: string, token: string): Secret[] {
  const parts = token.split('.');
  const signature = parts.at(-1) ?? '';
  return [
    { name, value: token },
    ...(parts.length === 3
      ? [
          { name: `${name}'s payload`, value: parts[1] ?? '' },
          { name: `${name}'s signature`, value: signature.slice(0, 24) },
          { name: `${name}'s signature`, value: signature.slice(-24) },
        ]
      : []),
  ];
}

/** Where secrets turn up in a text or in bytes, in any of the forms in which they get written down. */
export function findSecrets(
  where: string,
  content: string | Buffer,
  secrets: readonly Secret[],
): string[] {
  const haystack = Buffer.isBuffer(content) ? content.toString('latin1') : content;
  const lower = haystack.toLowerCase();
  return secrets.flatMap(({ name, value }) => {
    const raw = Buffer.from(value);
    const decoded = /^[A-Za-z0-9_-]{16,}$/.test(value) ? Buffer.from(value, 'base64url') : raw;
    const forms: [string, string][] = [
      ['as it is', value],
      ['in base64', raw.toString('base64').replace(/=+$/, '').slice(0, -1)],
      ['in base64url', raw.toString('base64url').slice(0, -1)],
      ['URL-encoded', encodeURIComponent(value)],
      ['as bytes', decoded.toString('latin1')],
    ];
    const hex: [string, string][] = [
      ['in hex', raw.toString('hex')],
      ['its bytes in hex', decoded.toString('hex')],
    ];
    const found = [
      ...forms.filter(([, form]) => haystack.includes(form)),
      ...hex.filter(([, form]) => lower.includes(form)),
    ];
    return found.map(([form]) => `${where}: ${name} ${form}`);
  });
}
