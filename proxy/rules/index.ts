import { METHOD } from '../../amqp/constants.ts';
import { rewriteExchangeDeclare } from './exchange-declare.ts';
import { rewriteQueueDeclare } from './queue-declare.ts';

/** A method that is rewritten on its way to the broker. */
export interface Rule {
  /** The method as people write it: the label of its counter. */
  readonly name: 'queue.declare' | 'exchange.declare';
  /** From a complete frame to the frame that the broker gets: the same array when nothing changes. */
  rewrite(frame: Uint8Array): Uint8Array;
}

const queueDeclare: Rule = { name: 'queue.declare', rewrite: rewriteQueueDeclare };
const exchangeDeclare: Rule = { name: 'exchange.declare', rewrite: rewriteExchangeDeclare };

/** The rule for a method (class * 65536 + method) that a client sends, or undefined: no rule concerns it. */
export function ruleFor(method: number): Rule | undefined {
  if (method === METHOD.queueDeclare) return queueDeclare;
  if (method === METHOD.exchangeDeclare) return exchangeDeclare;
  return undefined;
}
