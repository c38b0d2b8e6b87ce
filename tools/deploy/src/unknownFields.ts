/**
 * The fields of a document that a validator never looks at, as JSON pointers. Kubernetes' schemas allow additional
 * properties, so a misspelt field is valid; but no generated validator reads a name that its schema does not have.
 */
export function unknownFields<T extends object>(
  document: T,
  validate: (document: T) => void,
): string[] {
  const read = new Set<string>();
  validate(observed(document, '', read));
  return pointersOf(document, '').filter((pointer) => !read.has(pointer));
}

function observed<T extends object>(value: T, pointer: string, read: Set<string>): T {
  return new Proxy(value, {
    get(target, name, receiver) {
      const field: unknown = Reflect.get(target, name, receiver);
      if (typeof name === 'symbol') return field;
      const here = `${pointer}/${name}`;
      read.add(here);
      return typeof field === 'object' && field !== null ? observed(field, here, read) : field;
    },
  });
}

function pointersOf(value: object, pointer: string): string[] {
  return Object.entries(value).flatMap(([name, field]: [string, unknown]) => {
    const here = `${pointer}/${name}`;
    return typeof field === 'object' && field !== null
      ? [here, ...pointersOf(field, here)]
      : [here];
  });
}
