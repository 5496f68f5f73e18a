/** A broker that can't be reached or says no; the message names it and the way out, and has no secrets. */
export class BrokerFailure extends Error {
  override readonly name = 'BrokerFailure';
}
