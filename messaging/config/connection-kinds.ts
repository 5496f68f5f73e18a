import { formatDuration, parseDuration } from './duration.ts';
import type { Kind } from './keys.ts';

/** What a url says; parts that it leaves out are undefined. */
export interface UrlParts {
  readonly isTls: boolean;
  readonly host: string;
  readonly port: number | undefined;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly vhost: string | undefined;
}

const FORM = 'expected amqp://USER:PASSWORD@HOST:PORT/VHOST or amqps://…';

export const url: Kind<UrlParts> = {
  label: 'url',
  schema: { type: 'string', pattern: '^amqps?://' },
  parse(value) {
    let parsed: URL;
    try {
      parsed = new URL(value);
    } catch {
      // Node's own message quotes the url, with its password.
      throw new Error(`${FORM}; special characters of the password have to be percent-encoded`);
    }
    if (parsed.hash !== '') throw new Error(`${FORM}; a # has to be written as %23`);
    if (!/^amqps?:$/.test(parsed.protocol) || parsed.hostname === '') throw new Error(FORM);
    if (parsed.port === '0') throw new Error(`${FORM}; the port is a number from 1 to 65535`);
    if (parsed.search !== '')
      throw new Error(
        `${FORM}, without a query: heartbeat and the rest are keys of their own, and a ? of the password has to be written as %3F`,
      );
    return {
      isTls: parsed.protocol === 'amqps:',
      host: decoded(parsed.hostname)!.replaceAll(/^\[|\]$/g, ''),
      port: parsed.port === '' ? undefined : Number(parsed.port),
      username: decoded(parsed.username),
      password: decoded(parsed.password),
      // Without a name it is the default virtual host, as other clients have it.
      vhost: decoded(parsed.pathname.replace(/^\//, '')),
    };
  },
};

function decoded(part: string): string | undefined {
  if (part === '') return undefined;
  try {
    return decodeURIComponent(part);
  } catch {
    throw new Error(`${FORM}; a % has to be written as %25`);
  }
}

/** In whole seconds, as AMQP has it in 16 bits. */
export const heartbeat: Kind<number> = {
  label: 'duration',
  schema: { anyOf: [{ type: 'string', pattern: '^(0|[0-9]+(ms|s|m|h))$' }, { const: 0 }] },
  write: (seconds) => formatDuration(seconds * 1000),
  parse(value) {
    const milliseconds = parseDuration(value);
    if (milliseconds === undefined || milliseconds % 1000 !== 0 || milliseconds > 65_535_000) {
      throw new Error(
        `expected a duration of whole seconds up to ${formatDuration(65_535_000)}, such as 10s, or 0 for no heartbeats`,
      );
    }
    return milliseconds / 1000;
  },
};
