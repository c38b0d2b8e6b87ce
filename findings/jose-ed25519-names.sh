#!/usr/bin/env bash
# jose 6.2.0.
# Guess: EdDSA and Ed25519 (its name since RFC 9864) are one algorithm for a JWKS: a token with either verifies with a key
# that says the other.
# Seen: a key with `alg` verifies only tokens with that very name. The signature is the same, and without `alg` in the key
# both verify. An issuer that goes over to the new name has to change its JWKS first, or leave `alg` out.
. "$(dirname "$0")/lib/setup.sh"
install jose@6.2.0
cat >run.mjs <<'EOF'
import { createLocalJWKSet, exportJWK, generateKeyPair, importJWK, jwtVerify, SignJWT } from 'jose';
import { seen } from './check.mjs';

const pair = await generateKeyPair('Ed25519', { extractable: true });
const [publicJwk, privateJwk] = [await exportJWK(pair.publicKey), await exportJWK(pair.privateKey)];
const outcome = async (tokenAlg, keyAlg) => {
  const key = await importJWK(privateJwk, tokenAlg);
  const token = await new SignJWT({}).setProtectedHeader({ alg: tokenAlg, kid: 'a' }).sign(key);
  const jwks = createLocalJWKSet({ keys: [{ ...publicJwk, kid: 'a', ...keyAlg }] });
  return jwtVerify(token, jwks).then(
    () => 'verified',
    ({ code }) => code,
  );
};
const refused = 'ERR_JWKS_NO_MATCHING_KEY';
seen('token EdDSA, key EdDSA', await outcome('EdDSA', { alg: 'EdDSA' }), 'verified');
seen('token Ed25519, key EdDSA', await outcome('Ed25519', { alg: 'EdDSA' }), refused);
seen('token EdDSA, key Ed25519', await outcome('EdDSA', { alg: 'Ed25519' }), refused);
seen('token Ed25519, key without alg', await outcome('Ed25519', {}), 'verified');
seen('token EdDSA, key without alg', await outcome('EdDSA', {}), 'verified');
EOF
node run.mjs
