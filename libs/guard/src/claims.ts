import type { JWTPayload } from 'jose';

/** What Keycloak puts into access tokens. Every field is what a token says: look before use. */
export type AccessTokenClaims = Readonly<JWTPayload>;

export type JsonObject = Readonly<Record<string, unknown>>;

/** The value where it is a JSON object, else an empty one. */
export function objectOf(value: unknown): JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as JsonObject)
    : {};
}

/** A field of a JSON object; never what it inherits. */
export function fieldOf(value: unknown, name: string): unknown {
  const object = objectOf(value);
  return Object.hasOwn(object, name) ? object[name] : undefined;
}

/** The texts of a JSON array, or of one text. */
export function textsOf(value: unknown): readonly string[] {
  const list: readonly unknown[] = Array.isArray(value) ? value : [value];
  return list.filter((one) => typeof one === 'string');
}

/** The same value, which nobody can change any more: verified claims are shared by requests. */
export function frozen<Value>(value: Value): Value {
  if (typeof value !== 'object' || value === null) return value;
  Object.values(value).forEach(frozen);
  return Object.freeze(value);
}
