import { createHash, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import type { AdminAnswer } from './admin-route.ts';
import { messageOf, UsageError } from './errors.ts';
import type { Logger } from './log.ts';

/** Says why a request is refused; undefined: it isn't. @param loopback whether the server listens for this machine alone */
export type Guard = (request: IncomingMessage, loopback: boolean) => AdminAnswer | undefined;

/** What can be guessed is no token. */
const MIN_LENGTH = 16;

/** Whether an IP address is of this machine alone. */
export function isLoopback(address: string): boolean {
  return address === '::1' || /^(?:::ffff:)?127\./.test(address);
}

/** Reads a token, without the white space around it. @throws UsageError when there is none, or one that is too short */
function readToken(file: string): string {
  let token: string;
  try {
    token = readFileSync(file, 'utf8').trim();
  } catch (error) {
    throw new UsageError(`option --admin-token-file: ${messageOf(error)}`);
  }
  if (token.length < MIN_LENGTH || /\s/.test(token)) {
    throw new UsageError(
      `option --admin-token-file: ${file} has to hold one token of ${MIN_LENGTH} characters at least (openssl rand -hex 32)`,
    );
  }
  return token;
}

/** The host that a request is for, without its port and without brackets. */
function hostOf({ headers }: IncomingMessage): string {
  return (headers.host ?? '').replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
}

/** Whether a browser sends the request for a page that isn't this server's. */
function isForeign({ headers }: IncomingMessage): boolean {
  const { origin } = headers;
  if (origin !== undefined && origin.replace(/^https?:\/\//, '') !== headers.host) return true;
  const site = headers['sec-fetch-site'];
  return site !== undefined && site !== 'same-origin' && site !== 'none';
}

function refuse(status: number, text: string, headers: Record<string, string> = {}): AdminAnswer {
  return { status, body: `${text}\n`, headers };
}

/**
 * Guards the admin API: by the bearer token in a file, which is read at each request, so that it can be replaced; without
 * one, only who is on this machine may use it, and no page of another server that a browser there shows.
 * @throws UsageError when the file holds no token
 */
export function createGuard(tokenFile: string | undefined, log: Logger): Guard {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  if (tokenFile !== undefined) readToken(tokenFile);
  return (request, loopback) => {
    if (isForeign(request)) return refuse(403, 'refused: the request is of a page of another server');
    if (tokenFile === undefined) {
      if (!loopback) {
        const text = 'refused: --admin-listen is not a loopback address, and there is no --admin-token-file';
        return refuse(403, text);
      }
      // A name can be made to lead here by anybody: pages of another server would be taken for this one's.
      const host = hostOf(request);
      if (isIP(host) !== 0 || host === 'localhost') return undefined;
      return refuse(403, 'refused: without --admin-token-file ask by IP address or as localhost');
    }
    let token: string;
    try {
      token = readToken(tokenFile);
    } catch (error) {
      log.error({ err: messageOf(error) }, 'the admin API is closed: its token cannot be read');
      return refuse(503, 'the token cannot be read; the log says why');
    }
    const given = /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? '')?.[1];
    if (given !== undefined && timingSafeEqual(digest(given), digest(token))) return undefined;
    const text = given === undefined ? 'a bearer token is needed' : 'the bearer token is not the right one';
    return refuse(401, `${text} (--admin-token-file)`, { 'www-authenticate': 'Bearer' });
  };
}
