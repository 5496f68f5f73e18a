import { parseArgs } from 'node:util';
import { messageOf } from '../../../common/errors.ts';
import type { BrokerVersion } from '../../support/broker.ts';
import type { Mode } from './proxy.ts';

const MODES: readonly Mode[] = ['transparent', 'pool'];
const BROKERS: readonly BrokerVersion[] = ['3.10', '4.0', '4.3'];
const MINUTES_MAX = 600;
const SEED_MAX = 2 ** 31;

export interface SoakSettings {
  /** How long traffic flows; events that are under way then are finished. */
  readonly minutes: number;
  readonly modes: readonly Mode[];
  readonly broker: BrokerVersion;
  readonly seed: number;
}

function whole(name: string, text: string, from: number, to: number): number {
  const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= from && value <= to) return value;
  throw new Error(`option --${name}: "${text}" is no whole number from ${from} to ${to}`);
}

/** Reads the command line: the settings, `help`, or what is wrong with it as an Error. */
export function readSoakOptions(args: readonly string[]): SoakSettings | 'help' | Error {
  const text = { type: 'string' } as const;
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        minutes: text,
        mode: { type: 'string', multiple: true },
        broker: text,
        seed: text,
        help: { type: 'boolean', short: 'h' },
      },
    });
    if (values.help === true) return 'help';
    const named = values.mode ?? MODES;
    for (const mode of named)
      if (!MODES.some((one) => one === mode))
        throw new Error(`option --mode: "${mode}" is none of ${MODES.join(', ')}`);
    const broker = BROKERS.find((one) => one === (values.broker ?? '4.3'));
    if (broker === undefined)
      throw new Error(`option --broker: "${values.broker}" is none of ${BROKERS.join(', ')}`);
    return {
      minutes: whole('minutes', values.minutes ?? '20', 1, MINUTES_MAX),
      modes: MODES.filter((mode) => named.includes(mode)),
      broker,
      seed: whole('seed', values.seed ?? String(Date.now() % SEED_MAX), 0, SEED_MAX),
    };
  } catch (error) {
    return new Error(messageOf(error));
  }
}
