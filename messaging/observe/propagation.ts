/** Carries the context of a trace from who publishes to who handles, in headers of the message. */
export interface Propagator {
  /** Writes the present context into the headers of a message that is published. */
  readonly inject: (headers: Record<string, unknown>) => void;
  /** Does the work within the context that the headers of a delivery carry. */
  readonly run: <T>(headers: Readonly<Record<string, unknown>>, work: () => T) => T;
}

/** What is used of the package `@opentelemetry/api`. */
export interface OpenTelemetryApi<C> {
  readonly context: {
    active(): C;
    with<T>(context: C, work: () => T): T;
  };
  readonly propagation: {
    inject(context: C, carrier: Record<string, unknown>): void;
    extract(
      context: C,
      carrier: Readonly<Record<string, unknown>>,
      getter: {
        get(carrier: Readonly<Record<string, unknown>>, key: string): string | undefined;
        keys(carrier: Readonly<Record<string, unknown>>): string[];
      },
    ): C;
  };
}

/** Headers are anybody's to write, and propagators know texts alone. */
const TEXTS = {
  get(headers: Readonly<Record<string, unknown>>, key: string): string | undefined {
    const value = Object.hasOwn(headers, key) ? headers[key] : undefined;
    return typeof value === 'string' ? value : undefined;
  },
  keys: (headers: Readonly<Record<string, unknown>>): string[] => Object.keys(headers),
};

/**
 * The propagator that a program has set up in OpenTelemetry, by default W3C's with the headers traceparent and tracestate.
 * @param api the module `@opentelemetry/api`, as the program has imported it
 */
export function openTelemetry<C>({ context, propagation }: OpenTelemetryApi<C>): Propagator {
  return {
    inject: (headers) => propagation.inject(context.active(), headers),
    run: (headers, work) => context.with(propagation.extract(context.active(), headers, TEXTS), work),
  };
}
