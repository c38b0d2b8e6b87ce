const addresses = new WeakMap<Request, string>();

/** Remembers the address that a request's connection came from. */
export function noteRemoteAddress(request: Request, address: string | undefined): void {
  if (address !== undefined) addresses.set(request, address.replace(/^::ffff:/, ''));
}

export function remoteAddress(request: Request): string | null {
  return addresses.get(request) ?? null;
}
