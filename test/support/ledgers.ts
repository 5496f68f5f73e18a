// Ledgers of proxies as GET /clients answers them, made by a real ledger on a clock of its own.
import type { LedgerDocument, Mode } from '../../proxy/ledger-document.ts';
import { Ledger } from '../../proxy/ledger.ts';
import type { ClientRecord, ClientWho } from '../../proxy/record.ts';

export interface ToldClient extends Partial<ClientWho> {
  /** Seconds after the start at which it comes. */
  readonly at?: number;
  /** Whether its connection ends. */
  readonly leaves?: boolean;
  /** Frames that it sends. */
  readonly says?: readonly Buffer[];
  /** What is told of its connection besides. */
  readonly told?: (record: ClientRecord) => void;
}

export interface ToldLedger {
  readonly mode?: Mode;
  readonly limit?: number;
  readonly broker?: string;
  readonly startedAt?: string;
  readonly clients?: readonly ToldClient[];
}

/** The ledger of a proxy that these clients came to, one after the other, as it is right after the last of them. */
export function ledgerDocument({
  mode = 'observe',
  limit = 1000,
  broker = '3.10.8',
  startedAt = '2026-11-21T14:00:00Z',
  clients = [],
}: ToldLedger): LedgerDocument {
  const start = Date.parse(startedAt);
  let now = start;
  const ledger = new Ledger({ mode, limit, now: () => now });
  for (const { at = 0, leaves = false, says = [], told, ...who } of clients) {
    now = Math.max(now, start + at * 1000);
    const record = ledger.connected({ ...NOBODY, ...who }, broker);
    for (const frame of says) record.said(frame.readUInt32BE(7), frame);
    told?.(record);
    if (leaves) record.ended();
  }
  return ledger.document();
}

const NOBODY: ClientWho = {
  user: 'guest',
  virtualHost: '/',
  product: undefined,
  version: undefined,
  platform: undefined,
  connectionName: undefined,
  mechanism: 'PLAIN',
  address: '10.0.0.5',
  frameMax: 131_072,
};
