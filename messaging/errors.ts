/** A broker that can't be reached or says no; the message names it and the way out, and has no secrets. */
export class BrokerFailure extends Error {
  override readonly name = 'BrokerFailure';
}

/** The broker has said nothing in time: its connection may live on, and the channel that was asked is of no use any more. */
export class NoAnswer extends BrokerFailure {}
