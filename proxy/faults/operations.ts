import { operation, type Operation, refusal } from '../admin/operation.ts';
import { BadRequest, type Parameter } from '../admin/parameters.ts';
import { DIRECTIONS, SIDES } from './fault.ts';
import type { Faults } from './faults.ts';

const JSON_TYPE = 'application/json';

const WHOSE = [
  { name: 'user', type: 'string', description: 'of this user' },
  { name: 'vhost', type: 'string', description: 'of this virtual host' },
] as const satisfies readonly Parameter[];

export const SEVER_PARAMETERS = [
  {
    name: 'side',
    type: 'choice',
    choices: SIDES,
    default: 'both',
    description: 'what is reset: the connection of the client, the one to the broker, or both',
  },
  {
    name: 'share',
    type: 'integer',
    minimum: 1,
    maximum: 100,
    description: 'so many of them in percent, picked at random; 100 without count',
  },
  {
    name: 'count',
    type: 'integer',
    minimum: 1,
    maximum: 1_000_000,
    description: 'so many of them, picked at random',
  },
  {
    name: 'id',
    type: 'integer',
    minimum: 1,
    maximum: Number.MAX_SAFE_INTEGER,
    description: 'the one connection with this number',
  },
  ...WHOSE,
] as const satisfies readonly Parameter[];

export const DELAY_PARAMETERS = [
  {
    name: 'milliseconds',
    type: 'integer',
    minimum: 1,
    maximum: 10_000,
    default: 500,
    description: 'how long octets are held back',
  },
  {
    name: 'seconds',
    type: 'integer',
    minimum: 1,
    maximum: 3600,
    default: 60,
    description: 'for how long that goes on',
  },
  {
    name: 'direction',
    type: 'choice',
    choices: ['both', ...DIRECTIONS],
    default: 'both',
    description: 'which octets; with both, an answer is late by twice the milliseconds',
  },
  ...WHOSE,
] as const satisfies readonly Parameter[];

const OFF = 'fault injection is off: start the proxy with --fault-injection';

/** What the admin API has to make faults with. */
export function faultOperations(faults: Faults): Operation[] {
  return [
    operation({
      method: 'GET',
      path: '/faults',
      summary: 'Faults that run, and how many have been injected.',
      parameters: [],
      content: { type: JSON_TYPE, schema: 'Faults', description: 'the faults' },
      refusals: { 409: OFF },
      answer: () => (faults.enabled ? faults.document() : refusal(409, OFF)),
    }),
    operation({
      method: 'POST',
      path: '/faults/sever',
      summary: 'Breaks open connections off by a reset and without a word, as a network that fails does.',
      parameters: SEVER_PARAMETERS,
      content: { type: JSON_TYPE, schema: 'Severed', description: 'they are broken off' },
      refusals: { 404: 'no open connection is meant', 409: OFF },
      answer: ({ values: { share, count, ...meant } }) => {
        if (!faults.enabled) return refusal(409, OFF);
        if (share !== undefined && count !== undefined)
          throw new BadRequest(`parameter count=${count}: give share or count, not both`);
        if (faults.isPool && meant.id !== undefined && meant.side !== 'client') {
          const way = 'in mode pool clients share connections to the broker; give side=client, or no id';
          throw new BadRequest(`parameter id=${meant.id}: ${way}`);
        }
        return (
          faults.sever({ ...meant, count, share: share ?? 100 }) ??
          refusal(404, 'no open connection is meant')
        );
      },
    }),
    operation({
      method: 'POST',
      path: '/faults/delay',
      summary: 'Holds octets of open connections back, those that come later included. It ends by itself.',
      parameters: DELAY_PARAMETERS,
      content: { type: JSON_TYPE, schema: 'Delay', description: 'they are held back' },
      refusals: { 409: `${OFF}; or too many delays run already` },
      answer: ({ values }) => {
        if (!faults.enabled) return refusal(409, OFF);
        return faults.delay(values) ?? refusal(409, 'too many delays run already: DELETE /faults ends them');
      },
    }),
    operation({
      method: 'DELETE',
      path: '/faults',
      summary: 'Ends all faults that run: what was held back goes on at once.',
      parameters: [],
      content: { type: JSON_TYPE, schema: 'FaultsEnded', description: 'they are over' },
      refusals: { 409: OFF },
      answer: () => (faults.enabled ? { ended: faults.end() } : refusal(409, OFF)),
    }),
  ];
}
