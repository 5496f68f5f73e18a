import type { Binding } from './kinds.ts';
import type { ExchangeValues, QueueValues } from './table.ts';

export interface TlsConfig {
  /** Paths of PEM files, read at each connect. */
  readonly certFile: string | undefined;
  readonly keyFile: string | undefined;
  readonly caFile: string | undefined;
  readonly serverName: string | undefined;
  /** Any certificate of the broker is taken. */
  readonly skipVerify: boolean;
}

/** How a broker is reached. */
export interface ConnectionConfig {
  readonly host: string;
  readonly port: number;
  readonly username: string;
  readonly password: string;
  readonly vhost: string;
  readonly connectTimeoutMs: number;
  /** 0: none. */
  readonly heartbeatSeconds: number;
  /** In a row; 0: without end. */
  readonly maxReconnectAttempts: number;
  readonly reconnectDelayMs: number;
  /** undefined: not encrypted. */
  readonly tls: TlsConfig | undefined;
}

/** Where the dead letters of a queue go. */
export interface DeadLetters {
  readonly exchange: string;
  readonly declareExchange: boolean;
  /** Bound to the exchange; undefined where that is somebody else's matter. */
  readonly queue: string | undefined;
  readonly declareQueue: boolean;
  readonly messageTtlMs: number | 'none';
  readonly maxLength: number | 'none';
}

/** A queue with the defaults of its exchange and of the file. */
export interface QueueConfig extends Pick<
  QueueValues,
  'name' | 'declare' | 'queueType' | 'maxPriority' | 'messageTtlMs' | 'maxLength' | 'retryMs' | 'arguments'
> {
  /** As the exchange needs them: a fanout exchange has one without a routing key. */
  readonly bindings: readonly Binding[];
  readonly prefetch: number;
  readonly deliveryLimit: number | 'none';
  readonly deadLetters: DeadLetters | undefined;
}

export interface ExchangeConfig extends Pick<ExchangeValues, 'name' | 'kind' | 'durable' | 'declare'> {
  readonly arguments: NonNullable<ExchangeValues['arguments']>;
  readonly queues: readonly QueueConfig[];
}

/** What is checked when all is read. */
export interface Check {
  /** `at` is `line:column`. */
  readonly problem: (at: string, message: string) => void;
  readonly warning: (at: string, message: string) => void;
  /** The place of a key that was given, else that of the whole mapping. */
  readonly placeOf: (values: object, property: string) => string;
  readonly isGiven: (values: object, property: string) => boolean;
}
