/**
 * The address of a request, without query and fragment: the service's base URL with the path that was asked for behind
 * it. Null for a target that is no path (RFC 9112 §3.2), and for an absolute one of another host.
 */
export function requestUri(baseUrl: string, target: string): URL | null {
  const base = baseUrl.replace(/\/+$/, '');
  const text = target.startsWith('/') ? base + target : target;
  if (!/^https?:\/\//i.test(text) || !URL.canParse(text)) return null;
  const uri = new URL(text);
  const own = new URL(base);
  return uri.origin === own.origin ? uri : null;
}

/**
 * Whether `htu` names the same resource, after RFC 3986 §6.2.2 and §6.2.3 and without query and
 * fragment (RFC 9449 §4.3).
 */
export function sameUri(uri: URL, htu: unknown): boolean {
  if (typeof htu !== 'string' || !/^https?:\/\//i.test(htu) || !URL.canParse(htu)) return false;
  const named = new URL(htu);
  const bare = named.username === '' && named.password === '';
  return bare && named.origin === uri.origin && spelled(named.pathname) === spelled(uri.pathname);
}

/** One spelling of a path: escapes in capitals, and none of what needs no escape. */
const spelled = (path: string): string =>
  path.replace(/%[0-9a-f]{2}/gi, (escape) => {
    const character = String.fromCharCode(Number.parseInt(escape.slice(1), 16));
    return /[A-Za-z0-9._~-]/.test(character) ? character : escape.toUpperCase();
  });
