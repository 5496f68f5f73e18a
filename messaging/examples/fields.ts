/** A field of an object that holds a text. @throws Error that names the field, without what it holds */
export function text(value: unknown, field: string): string {
  if (typeof value !== 'object' || value === null) throw new Error('expected an object');
  const found = (value as Readonly<Record<string, unknown>>)[field];
  if (typeof found === 'string' && found !== '') return found;
  throw new Error(`${field}: expected a text that is not empty`);
}

/** A field that holds a point in time. @throws Error that names the field, without what it holds */
export function time(value: unknown, field: string): Date {
  const date = new Date(text(value, field));
  if (Number.isNaN(date.getTime())) throw new Error(`${field}: expected a time like 2026-01-31T12:00:00Z`);
  return date;
}
