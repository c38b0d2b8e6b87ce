/**
 * What may go with a logout. Cookies may not: the directive would take those of sibling hosts too. A browser that
 * clears `storage` takes service workers and everything that pages keep.
 */
export const CLEARED_SITE_DATA = ['cache', 'storage'] as const;
export type ClearedSiteData = (typeof CLEARED_SITE_DATA)[number];

/** Directives of `Clear-Site-Data` as LOGOUT_CLEAR_SITE_DATA has them, both by default; null for anything else. */
export function parseClearSiteData(text: string | undefined): readonly ClearedSiteData[] | null {
  if (!text) return CLEARED_SITE_DATA;
  if (text === 'none') return [];
  const names = text.split(',').map((name) => name.trim());
  const known = CLEARED_SITE_DATA.filter((directive) => names.includes(directive));
  return known.length === names.length ? known : null;
}
