import { createSecureContext, type SecureContext } from 'node:tls';
import { Load } from './load.ts';
import { serve } from './remote.ts';

// The loader as a process of its own: the clients of one target at a time.

let load: Load | undefined;
let secure: SecureContext | undefined;

const functions = {
  /** Verifies servers against these authorities, in PEM. TLS is the same for all targets, whatever they would choose. */
  trust(ca: string): void {
    const ciphers = 'TLS_AES_256_GCM_SHA384';
    secure = createSecureContext({ ca, minVersion: 'TLSv1.3', ciphers, ecdhCurve: 'X25519' });
  },
  /** Turns to a port, by TLS or not. */
  turnTo(port: number, tls: boolean): void {
    load?.close();
    load = new Load({ port, secure: tls ? secure : undefined });
  },
  close: () => load!.close(),
  open: (count: number) => load!.open(count),
  publish: (count: number, size: number) => load!.publish(count, size),
  consume: (count: number, size: number) => load!.consume(count, size),
  consumed: () => load!.consumed(),
  publishConfirmed: (count: number, size: number) => load!.publishConfirmed(count, size),
  roundTrips: (count: number) => load!.roundTrips(count),
  cycles: (count: number, atOnce: number, confirm: boolean) => load!.cycles(count, atOnce, confirm),
  paced: (count: number) => load!.paced(count),
  bursts: (count: number) => load!.bursts(count),
};
export type LoadFunctions = typeof functions;
serve(functions);
