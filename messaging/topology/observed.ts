import type { Version } from '../../common/version.ts';
import type { Arguments } from '../config/kinds.ts';
import type { BindingDeclaration } from './declarations.ts';

export interface ObservedExchange {
  readonly name: string;
  readonly type: string;
  readonly durable: boolean;
  readonly autoDelete: boolean;
  readonly internal: boolean;
  readonly arguments: Arguments;
}

export interface ObservedQueue {
  readonly name: string;
  readonly type: string;
  readonly durable: boolean;
  readonly autoDelete: boolean;
  readonly exclusive: boolean;
  readonly arguments: Arguments;
}

/** All that one virtual host has. */
export interface Observed {
  readonly version: Version;
  /** By name; without the default exchange. */
  readonly exchanges: ReadonlyMap<string, ObservedExchange>;
  readonly queues: ReadonlyMap<string, ObservedQueue>;
  /** Of queues to exchanges; without those that every queue has to the default exchange. */
  readonly bindings: readonly BindingDeclaration[];
  /** Of exchanges to exchanges, for which a file has no words. */
  readonly exchangeBindings: readonly BindingDeclaration[];
}

/** A queue that some client made for itself and that goes with it: none of a file's business. */
export function isPassing(queue: Pick<ObservedQueue, 'exclusive' | 'autoDelete'>): boolean {
  return queue.exclusive || queue.autoDelete;
}

/** An exchange that RabbitMQ makes by itself. */
export function isBuiltIn(exchange: string): boolean {
  return exchange === '' || exchange.startsWith('amq.');
}
