const addresses = new WeakMap<Request, string>();

/** Remembers the address of a request's client. */
export function noteRemoteAddress(request: Request, address: string): void {
  addresses.set(request, address);
}

/** The client's address, as far as trusted proxies vouch for it. */
export function remoteAddress(request: Request): string | null {
  return addresses.get(request) ?? null;
}
