/**
 * The object asks for the proxy and can't have it. The admission is denied with this message, which names the
 * field, its value where that is no secret, and the way out.
 */
export class Refusal extends Error {
  override readonly name = 'Refusal';
  /** As an HTTP status: 409 or 422. */
  readonly code: number;
  /** The field, as keys and indexes from the object's root. */
  readonly path: (string | number)[];

  constructor(path: (string | number)[], message: string, code = 422) {
    super(`${fieldName(path)}: ${message}`);
    this.code = code;
    this.path = path;
  }
}

/** A value as messages repeat it. */
export function quoted(value: string): string {
  return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
}

/** A field's name as Kubernetes writes it: `spec.containers[0].image`, `metadata.annotations[quorumbridge.io/x]`. */
export function fieldName(path: (string | number)[]): string {
  let name = '';
  for (const step of path) {
    if (typeof step === 'number' || !/^[\w-]+$/.test(step)) name += `[${step}]`;
    else name += name === '' ? step : `.${step}`;
  }
  return name;
}
