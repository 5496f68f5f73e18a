import { METHOD } from '../../amqp/constants.ts';
import { consumeTrial, rewriteBasicConsume } from './basic-consume.ts';
import { rewriteBasicQos } from './basic-qos.ts';
import { exchangeTrial, rewriteExchangeDeclare } from './exchange-declare.ts';
import { queueTrial, rewriteQueueDeclare } from './queue-declare.ts';
import { deleteTrial, rewriteQueueDelete } from './queue-delete.ts';
import type { Rule } from './rule.ts';

const queueDeclare: Rule = {
  name: 'queue.declare',
  rewrite: rewriteQueueDeclare,
  trial: queueTrial,
};
const exchangeDeclare: Rule = {
  name: 'exchange.declare',
  rewrite: rewriteExchangeDeclare,
  trial: () => exchangeTrial,
};
const queueDelete: Rule = { name: 'queue.delete', rewrite: rewriteQueueDelete, trial: deleteTrial };
const basicQos: Rule = { name: 'basic.qos', rewrite: rewriteBasicQos };
const basicConsume: Rule = { name: 'basic.consume', rewrite: rewriteBasicConsume, trial: consumeTrial };

/** The rule for a method (class * 65536 + method) that a client sends, or undefined: no rule concerns it. */
export function ruleFor(method: number): Rule | undefined {
  switch (method) {
    case METHOD.queueDeclare:
      return queueDeclare;
    case METHOD.exchangeDeclare:
      return exchangeDeclare;
    case METHOD.queueDelete:
      return queueDelete;
    case METHOD.basicQos:
      return basicQos;
    case METHOD.basicConsume:
      return basicConsume;
    default:
      return undefined;
  }
}
