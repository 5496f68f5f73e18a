import { NOBODY } from '../../amqp/handshake.ts';
import type { Session } from '../session.ts';
import type { ConnectionDocument } from './documents.ts';

/** Texts of clients are cut to so many characters: a client must not fill everybody's answers. */
const TEXT_MAX = 256;

function short(text: string | undefined): string | null {
  return text?.slice(0, TEXT_MAX) ?? null;
}

/** A client's connection as GET /connections has it: no credentials. */
export function describeConnection(session: Session): ConnectionDocument {
  const { id, endpoints, state, account, conversation, bufferedForClient, brakes } = session;
  const { user, connectionName, product, version, platform } = conversation?.identity ?? NOBODY;
  const virtualHost = conversation?.virtualHost ?? '';
  let rewrites = 0;
  for (const count of Object.values(conversation?.rewrites ?? {})) rewrites += count;
  return {
    id,
    address: endpoints.sourceAddress,
    port: endpoints.sourcePort,
    tls: account.encrypted,
    state,
    user: user ?? null,
    vhost: virtualHost === '' ? null : virtualHost,
    name: short(connectionName),
    product: short(product),
    version: short(version),
    platform: short(platform),
    connectedAt: new Date(performance.timeOrigin + account.startedAt).toISOString(),
    channels: account.channels.size,
    octetsFromClient: account.octetsFromClient,
    octetsToClient: account.octetsFromBroker,
    buffered: bufferedForClient,
    rewrites,
    paused: brakes.isPaused,
  };
}
