export { AuthError, type AuthErrorCode, isAuthError } from './errors.js';
export type { TokenLocation } from './services/encryption/associatedData.js';
export { createKeyring, type Keyring, MIN_KEY_TEXT_LENGTH } from './services/encryption/keyring.js';
export { MAX_TOKEN_BYTES, type ReadPolicy, type StoredClass, TokenEncryption, type UnreadableReason } from './services/encryption/TokenEncryption.js';
