interface OptionBase<T> {
  /** Kebab-case: the long flag and the key in the configuration file. */
  readonly name: string;
  /** One letter, for the few options that people type by hand. */
  readonly short?: string;
  /** Placeholder of the value, such as `HOST:PORT`. Absent: the option is a boolean flag (parse it with `flag()`). */
  readonly argument?: string;
  /** Environment variable. An empty variable counts as not set. */
  readonly env: string;
  /** One or two sentences without the default, which help and documentation add by themselves. */
  readonly description: string;
  /** Resolution fails when none of the sources gives a value. */
  readonly required?: boolean;
  /** The value is never repeated in an error or a log line. */
  readonly secret?: boolean;
  /** The default in words, where there is no fixed one or where it does not speak for itself. */
  readonly hiddenDefault?: string;
  /** Turns one text into one value; throws an Error whose message says what is expected. */
  parse(text: string): T;
}

interface SingleOption<T> extends OptionBase<T> {
  readonly repeatable?: false;
  readonly default?: T;
}

/** Given many times as a flag, comma separated in the environment, a list in the file; the value is an array. */
interface RepeatableOption<T> extends OptionBase<T> {
  readonly repeatable: true;
  readonly default?: readonly T[];
}

export type OptionSpec<T> = SingleOption<T> | RepeatableOption<T>;

/** Options by their camelCase property. Declare a table with `satisfies OptionTable`, so that its value types stay known. */
export type OptionTable = Readonly<Record<string, OptionSpec<unknown>>>;

/** The default of an option as people see it; undefined where there is none. */
export function defaultText(spec: OptionSpec<unknown>): string | undefined {
  if (spec.hiddenDefault !== undefined) return spec.hiddenDefault;
  if (spec.default === undefined) return spec.argument === undefined ? 'false' : undefined;
  const values: unknown[] = Array.isArray(spec.default) ? spec.default : [spec.default];
  return values.map((value) => (typeof value === 'string' ? value : JSON.stringify(value))).join(',');
}

type Parsed<S extends OptionSpec<unknown>> = ReturnType<S['parse']>;

type OptionValue<S extends OptionSpec<unknown>> = S extends { readonly repeatable: true }
  ? readonly Parsed<S>[]
  : S extends { readonly argument: string }
    ? S extends { readonly default: unknown } | { readonly required: true }
      ? Parsed<S>
      : Parsed<S> | undefined
    : boolean;

/**
 * The values of a table. Repeatable options are arrays (empty when not given), boolean flags are false when
 * not given, and other options without a default are undefined when not given.
 */
export type OptionValues<T extends OptionTable> = { readonly [K in keyof T]: OptionValue<T[K]> };

/** A TCP address. `host` is a name or an IP address without brackets; port 0 lets the system choose where one listens. */
export interface HostPort {
  readonly host: string;
  readonly port: number;
}

const unitSeconds: Readonly<Record<string, number>> = { ms: 0.001, s: 1, m: 60, h: 3600 };

const unitOctets: Readonly<Record<string, number>> = { '': 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 };

function port(text: string): number {
  const value = /^\d{1,5}$/.test(text) ? Number(text) : NaN;
  if (!(value <= 65535)) throw new Error('expected a port from 0 to 65535');
  return value;
}

/**
 * Parser of `HOST:PORT`, with IPv6 addresses in brackets (`[::1]:5672`). With `defaultHost` a bare `:PORT` or
 * `PORT` is taken too.
 */
export function hostPort({ defaultHost }: { defaultHost?: string } = {}): (text: string) => HostPort {
  return (text) => {
    const match =
      /^(?:(?:\[(?<v6>[0-9a-fA-F:.]+(?:%[\w.-]+)?)\]|(?<name>[^\s:[\]/@]+))?:)?(?<port>\d+)$/.exec(text);
    const host = match?.groups?.['v6'] ?? match?.groups?.['name'] ?? defaultHost;
    if (match === null || host === undefined) {
      throw new Error('expected HOST:PORT, with an IPv6 address in brackets as in [::1]:5672');
    }
    return { host, port: port(match.groups?.['port'] ?? '') };
  };
}

/** Writes an address the way `hostPort` reads it. */
export function formatHostPort({ host, port }: HostPort): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

function range(min: number | undefined, max: number | undefined, unit = ''): string {
  if (min !== undefined && max !== undefined) return ` from ${min} to ${max}${unit}`;
  if (min !== undefined) return ` of at least ${min}${unit}`;
  return max === undefined ? '' : ` of at most ${max}${unit}`;
}

interface Bounds {
  readonly min?: number;
  readonly max?: number;
}

/** Parser of a decimal whole number within the bounds, both inclusive. */
export function integer({ min, max }: Bounds = {}): (text: string) => number {
  return (text) => {
    const value = /^-?\d{1,16}$/.test(text) ? Number(text) : NaN;
    if (!Number.isSafeInteger(value) || value < (min ?? -Infinity) || value > (max ?? Infinity)) {
      throw new Error(`expected a whole number${range(min, max)}`);
    }
    return value;
  };
}

/** Parser of a duration, in seconds, within the bounds: `30`, `0.5`, `500ms`, `30s`, `5m`, `1h`. */
export function seconds({ min = 0, max }: Bounds = {}): (text: string) => number {
  return (text) => {
    const match = /^(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h)?$/.exec(text);
    const value = match === null ? NaN : Number(match[1]) * (unitSeconds[match[2] ?? 's'] ?? NaN);
    if (!(value >= min && value <= (max ?? Infinity))) {
      throw new Error(`expected a duration${range(min, max, ' seconds')}, such as 30, 30s, 500ms or 5m`);
    }
    return value;
  };
}

/** Parser of a size, in octets, within the bounds: `65536`, `64KiB`, `16MiB`, `1GiB`. */
export function octets({ min = 0, max }: Bounds = {}): (text: string) => number {
  return (text) => {
    const match = /^(\d{1,16})(KiB|MiB|GiB)?$/.exec(text);
    const value = match === null ? NaN : Number(match[1]) * (unitOctets[match[2] ?? ''] ?? NaN);
    if (!(value >= min && value <= (max ?? Number.MAX_SAFE_INTEGER))) {
      throw new Error(`expected a size${range(min, max, ' octets')}, such as 65536, 64KiB or 16MiB`);
    }
    return value;
  };
}

/** Parser that takes one of the given words. */
export function oneOf<const T extends string>(...choices: readonly T[]): (text: string) => T {
  return (text) => {
    const choice = choices.find((candidate) => candidate === text);
    if (choice === undefined) throw new Error(`expected one of ${choices.join(', ')}`);
    return choice;
  };
}

/** Parser of a boolean flag: a bare flag is `true`; the environment and the file say `true`/`false` or `1`/`0`. */
export function flag(): (text: string) => boolean {
  return (text) => {
    if (text === 'true' || text === '1') return true;
    if (text === 'false' || text === '0') return false;
    throw new Error('expected true or false');
  };
}

/** Parser of a path. It is not opened here: a file may be replaced while the program runs. */
export function filePath(): (text: string) => string {
  return (text) => {
    if (text === '' || text.includes('\0')) throw new Error('expected the path of a file');
    return text;
  };
}

/** Parser that takes any text but an empty one. */
export function text(): (text: string) => string {
  return (value) => {
    if (value.trim() === '') throw new Error('expected a text that is not empty');
    return value;
  };
}

/** The name of an object in a namespace. */
export interface NamespacedName {
  readonly namespace: string;
  readonly name: string;
}

const dnsLabel = '[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?';
const namespaceAndName = new RegExp(`^(${dnsLabel})/(${dnsLabel}(?:\\.${dnsLabel})*)$`);

/** Parser of NAMESPACE/NAME. */
export function namespacedName(): (text: string) => NamespacedName {
  return (text) => {
    const [, namespace, name] = (text.length <= 317 && namespaceAndName.exec(text)) || [];
    if (namespace === undefined || name === undefined) {
      throw new Error('expected NAMESPACE/NAME, as in quorumbridge-system/quorumbridge-webhook-cert');
    }
    return { namespace, name };
  };
}

/** Parser of the name of a namespace. */
export function namespaceName(): (text: string) => string {
  const pattern = new RegExp(`^${dnsLabel}$`);
  return (text) => {
    if (!pattern.test(text)) throw new Error('expected the name of a namespace, as in openstack');
    return text;
  };
}
