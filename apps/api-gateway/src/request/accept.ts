import Negotiator from 'negotiator';

/**
 * The media type of several that an Accept field prefers, by weight and then by how closely it names it (RFC 9110
 * §12.5.1). Of types that are as welcome as each other, and where none is, the first.
 */
export function preferredType<Type extends string>(
  accept: string | null,
  types: readonly [Type, ...Type[]],
): Type {
  // JSON has one charset; with a parameter the type would be another one.
  const headers = accept === null ? {} : { accept: accept.replace(/;\s*charset=[^;,]*/gi, '') };
  const [preferred] = new Negotiator({ headers }).mediaTypes([...types]);
  return types.find((type) => type === preferred) ?? types[0];
}

/** Whether it is a page that is asked for: a program that takes anything (`*\/*`) does not. */
export const prefersPage = (accept: string | null): boolean =>
  preferredType(accept, ['application/json', 'application/problem+json', 'text/html']) ===
  'text/html';
