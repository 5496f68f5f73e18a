import { PORT } from '../common/contract.ts';
import { OVERLAY_BEGIN, OVERLAY_END, splitOverlays } from '../common/overlay.ts';
import { ErlangError, parseTerms, property } from './erlang.ts';
import type { Term } from './erlang.ts';
import type { BackendHost } from './form.ts';

/**
 * The part of RabbitMQ's configuration that the injection owns. It is an overlay in advanced.config, because only
 * there the listeners come out right whatever rabbitmq.conf says: `listeners.tcp = none`, which the cluster
 * operator writes for disableNonTLSListeners, beats every other rabbitmq.conf key. It stands between two markers
 * inside the user's own text, so that removing it needs no copy of that text.
 */

/** The longest advancedConfig that the RabbitmqCluster resource takes (maxLength in its schema), in characters. */
const MAX_LENGTH = 100_000;

/** Why advanced.config can't take the overlay; the message says what to do. */
export class OverlayError extends Error {
  override readonly name = 'OverlayError';
}

/** How RabbitMQ listens behind the proxy. */
export interface Listening {
  /** The loopback address. */
  host: BackendHost;
  /** RabbitMQ expects the PROXY protocol's header, so that it sees the clients' own addresses. */
  proxyProtocol: boolean;
}

/** The keys of the `rabbit` application; a later key beats an earlier one, so they go at the list's end. */
function keys({ host, proxyProtocol }: Listening): string {
  return `{tcp_listeners,[{"${host}",${PORT.backend}}]},{ssl_listeners,[]},{proxy_protocol,${proxyProtocol}}`;
}

/** A whole advanced.config that holds nothing else. */
export function wholeAdvancedConfig(listening: Listening): string {
  return `[{rabbit,[${keys(listening)}]}].\n`;
}

/** True when the text holds one of the markers, also where the other was lost. */
export function hasOverlay(text: string): boolean {
  return text.includes(OVERLAY_BEGIN) || text.includes(OVERLAY_END);
}

/** Takes the overlay out; every other character stays. Throws OverlayError when the markers were edited. */
export function stripOverlay(text: string): { text: string; overlay?: string } {
  const { text: rest, overlays } = splitOverlays(text);
  if (hasOverlay(rest) || overlays.length > 1) {
    throw new OverlayError(
      `the lines "${OVERLAY_BEGIN}" and "${OVERLAY_END}" must stand there once each, in this order: ` +
        'put them back, or delete them and all that stands between them',
    );
  }
  return overlays.length === 0 ? { text: rest } : { text: rest, overlay: overlays[0]! };
}

/** Inserts the overlay into a text that has none. Throws OverlayError when the text can't be read or gets too long. */
export function spliceOverlay(text: string, listening: Listening): { text: string; overlay: string } {
  const { at, overlay } = place(text, listening);
  const lead = text === '' ? '' : '\n';
  const result = `${text.slice(0, at)}${lead}${OVERLAY_BEGIN}\n${overlay}\n${OVERLAY_END}\n${text.slice(at)}`;
  if (result.length > MAX_LENGTH) {
    throw new OverlayError(
      `with the proxy's listeners it has ${result.length} characters, at most ${MAX_LENGTH} are allowed: shorten it`,
    );
  }
  return { text: result, overlay };
}

/** Where the overlay goes, and what it says there. */
function place(text: string, listening: Listening): { at: number; overlay: string } {
  const list = applications(text);
  if (list === undefined) return { at: text.length, overlay: `[{rabbit,[${keys(listening)}]}].` };
  const rabbit = property(list, 'rabbit');
  const target = rabbit ?? list;
  if (target.type !== 'list' || target.improper) {
    throw new OverlayError('the value of rabbit is not a list of {key, value} tuples');
  }
  const comma = target.items.length > 0 ? ',' : '';
  const content = rabbit === undefined ? `{rabbit,[${keys(listening)}]}` : keys(listening);
  const at = target.items.at(-1)?.end ?? target.start + 1;
  return { at, overlay: comma + content };
}

/** The one list of {application, [{key, value}]} that advanced.config is; undefined when it holds no term yet. */
function applications(text: string): Term | undefined {
  let terms: Term[];
  try {
    terms = parseTerms(text);
  } catch (error) {
    if (!(error instanceof ErlangError)) throw error;
    throw new OverlayError(`it is not an Erlang term (${error.message}): correct it`, { cause: error });
  }
  if (terms.length === 0) return undefined;
  const list = terms[0]!;
  if (terms.length > 1 || list.type !== 'list' || list.improper) {
    throw new OverlayError('RabbitMQ reads exactly one list, [{application, [{key, value}]}]. : write it so');
  }
  return list;
}

/** What the text says about how clients prove who they are; undefined where it says nothing. */
export interface AuthenticationOptions {
  verify: string | undefined;
  failIfNoPeerCert: string | undefined;
  mechanisms: string[] | undefined;
}

/** Reads the rabbit application's ssl_options and auth_mechanisms. Throws OverlayError when the text can't be read. */
export function authenticationOptions(text: string): AuthenticationOptions {
  const list = applications(text);
  const rabbit = list && property(list, 'rabbit');
  const options = rabbit && property(rabbit, 'ssl_options');
  return {
    verify: options && property(options, 'verify')?.name,
    failIfNoPeerCert: options && property(options, 'fail_if_no_peer_cert')?.name,
    mechanisms: rabbit && property(rabbit, 'auth_mechanisms')?.items.map((item) => item.name),
  };
}
