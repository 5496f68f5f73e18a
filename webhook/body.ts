import { RequestError } from './errors.ts';
import type { Json } from '../common/kube/types.ts';

/**
 * Deepest nesting of a request body: the limit of the API server's own JSON decoder (sigs.k8s.io/json), so no API
 * server can send more. It is counted before parsing, because four million brackets cost 380 MB once parsed.
 */
const MAX_BODY_DEPTH = 10_000;

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** Says whether the JSON text nests arrays and objects more than `limit` deep. Linear, allocates nothing. */
function nestsDeeperThan(text: Uint8Array, limit: number): boolean {
  let depth = 0;
  let inString = false;
  for (let i = 0; i < text.length; i++) {
    const byte = text[i];
    if (inString) {
      if (byte === BACKSLASH) i++;
      else if (byte === QUOTE) inString = false;
    } else if (byte === QUOTE) inString = true;
    else if (byte === 0x5b || byte === 0x7b) {
      if (++depth > limit) return true;
    } else if (byte === 0x5d || byte === 0x7d) depth--;
  }
  return false;
}

/**
 * Parses a request body. Throws RequestError NotJson or NestedTooDeeply; the message never quotes the body, which may
 * hold passwords of a broker's configuration.
 */
export function parseBody(body: Uint8Array): Json {
  if (body.length === 0) {
    throw new RequestError(
      'NotJson',
      'the body is empty: send an AdmissionReview of admission.k8s.io/v1 as JSON',
    );
  }
  if (nestsDeeperThan(body, MAX_BODY_DEPTH)) {
    throw new RequestError(
      'NestedTooDeeply',
      `the body nests arrays and objects more than ${MAX_BODY_DEPTH} deep`,
    );
  }
  let text: string;
  try {
    text = utf8.decode(body);
  } catch {
    throw new RequestError(
      'NotJson',
      'the body is not valid UTF-8, so it is not JSON (RFC 8259 section 8.1)',
    );
  }
  try {
    return JSON.parse(text) as Json;
  } catch (error) {
    // V8 quotes the text around the error: only the position is safe to repeat.
    const position = /at position (\d+)/.exec(String(error))?.[1];
    const where = position === undefined ? '' : ` (error at character ${position})`;
    throw new RequestError('NotJson', `the body is not valid JSON${where}: send an AdmissionReview as JSON`);
  }
}

/**
 * Says whether a parsed value nests more than `limit` levels. Iterative, so the deepest value that JSON.parse makes
 * can't exhaust the stack here.
 */
export function isDeeperThan(value: unknown, limit: number): boolean {
  let level: object[] = typeof value === 'object' && value !== null ? [value] : [];
  for (let depth = 1; level.length > 0; depth++) {
    if (depth > limit) return true;
    const next: object[] = [];
    for (const parent of level) {
      for (const child of Object.values(parent)) {
        if (typeof child === 'object' && child !== null) next.push(child);
      }
    }
    level = next;
  }
  return false;
}
