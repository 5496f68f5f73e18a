/** What can be injected. */
export const FAULTS = ['sever', 'delay'] as const;

/** The ends of a client's way to the broker that can be severed. */
export const SIDES = ['client', 'broker', 'both'] as const;
export type Side = (typeof SIDES)[number];

export const DIRECTIONS = ['client_to_broker', 'broker_to_client'] as const;
export type Direction = (typeof DIRECTIONS)[number];

/** What is counted about faults that an operator has injected. */
export class FaultStats {
  readonly injected = { sever: 0, delay: 0 } satisfies Record<(typeof FAULTS)[number], number>;
}
