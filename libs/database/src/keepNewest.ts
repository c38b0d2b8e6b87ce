/**
 * Puts an entry into a map as its newest, and drops the oldest when there are more than `maxEntries`: others choose the
 * keys, and memory has a bound.
 */
export function keepNewest<Key, Value>(
  map: Map<Key, Value>,
  key: Key,
  value: Value,
  maxEntries: number,
): void {
  map.delete(key);
  map.set(key, value);
  if (map.size <= maxEntries) return;
  const { value: oldest } = map.keys().next();
  map.delete(oldest as Key);
}
