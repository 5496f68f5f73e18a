/** Octets from a peer that break the protocol; a connection exception, never the process's problem. */
export class WireError extends Error {
  override readonly name = 'WireError';
  /** AMQP reply code: 501 to 505. */
  readonly replyCode: number;
  /** The method at fault as class * 65536 + method, or 0 where there is none. */
  readonly method: number;

  constructor(replyCode: number, message: string, method = 0) {
    super(message);
    this.replyCode = replyCode;
    this.method = method;
  }
}
