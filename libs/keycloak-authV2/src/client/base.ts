/** An address without the slashes at its end, for a path to go behind. */
export const base = (url: string): string => url.replace(/\/+$/, '');
