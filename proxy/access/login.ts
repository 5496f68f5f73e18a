import type { Socket } from 'node:net';
import {
  readMechanisms,
  readStartOk,
  type StartOk,
  withLogin,
  withMechanisms,
} from '../../amqp/connection.ts';
import { METHOD, REPLY } from '../../amqp/constants.ts';
import { WireError } from '../../amqp/error.ts';
import { encodePlain, type PasswordLogin, readAmqplain, readPlain } from '../../amqp/sasl.ts';
import { type Refusal, tooMany } from '../limits/limit.ts';
import { certificateNamesOf } from './certificate-names.ts';
import type { BrokerLogin, CertificateClient } from './credentials-file.ts';
import type { Credentials } from './credentials.ts';
import { type Cancel, PasswordChecks } from './password-checks.ts';
import { PASSWORD_MAX } from './password-hash.ts';

/** Mechanisms with a user and a password, by how their responses are read. */
const BY_PASSWORD: ReadonlyMap<string, (response: Uint8Array) => PasswordLogin | undefined> = new Map([
  ['PLAIN', readPlain],
  ['AMQPLAIN', readAmqplain],
]);

/** The mechanism that logs a client in by its certificate. */
const EXTERNAL = 'EXTERNAL';

/** The proxy's own credentials, as far as there are any. */
export class Logins {
  readonly #checks = new PasswordChecks();
  #credentials: Credentials | undefined;

  constructor(credentials: Credentials | undefined) {
    this.#credentials = credentials;
  }

  /** Takes other credentials into use: clients that come from now on log in by them. */
  use(credentials: Credentials | undefined): void {
    this.#credentials = credentials;
  }

  /** Whether clients have to log in at the proxy. */
  get areAsked(): boolean {
    return this.#credentials !== undefined;
  }

  /** The login of a client that comes now; undefined where that is between it and the broker. */
  of(client: Socket): Login | undefined {
    const credentials = this.#credentials;
    return credentials === undefined ? undefined : new Login(credentials, this.#checks, client);
  }
}

/** How a login ends: by one of the two, once. */
export interface LoginEvents {
  /** @param startOk the frame for the broker */
  letIn(startOk: Uint8Array): void;
  refused(refusal: Refusal): void;
}

/** One client's login at the proxy. */
export class Login {
  readonly #credentials: Credentials;
  readonly #checks: PasswordChecks;
  /** Whether the client has shown a certificate, and whose it is. */
  readonly #hasCertificate: boolean;
  readonly #certificate: CertificateClient | undefined;
  /** The client's connection.start-ok, and what it says. */
  #frame: Uint8Array | undefined;
  #startOk: StartOk | undefined;
  #user: string | undefined;
  #broker: BrokerLogin | undefined;
  #cancel: Cancel | undefined;

  constructor(credentials: Credentials, checks: PasswordChecks, client: Socket) {
    this.#credentials = credentials;
    this.#checks = checks;
    const names = credentials.knowsCertificates ? certificateNamesOf(client) : undefined;
    this.#hasCertificate = names !== undefined;
    this.#certificate = names === undefined ? undefined : credentials.byCertificate(names);
  }

  /** The user that the client is at the proxy, as it says until it is let in. */
  get user(): string | undefined {
    return this.#user;
  }

  /** The user that the proxy logs it in as at the broker; undefined where it logs in by itself. */
  get brokerUser(): string | undefined {
    return this.#broker?.user;
  }

  /** Whether a connection.start-ok is held, until {@link decide} has ended. */
  get isHolding(): boolean {
    return this.#frame !== undefined;
  }

  /** connection.start with the mechanisms that the proxy takes. @param start the broker's, a complete frame */
  offer(start: Uint8Array): Uint8Array {
    const offered = readMechanisms(start).filter((name) => BY_PASSWORD.has(name));
    return withMechanisms(start, this.#certificate === undefined ? offered : [...offered, EXTERNAL]);
  }

  /**
   * Holds a client's connection.start-ok, a complete frame.
   * @throws WireError 502 when it is malformed, 503 when it is the second one
   */
  hold(frame: Uint8Array): void {
    if (this.#startOk !== undefined)
      throw new WireError(REPLY.commandInvalid, 'a second connection.start-ok', METHOD.connectionStartOk);
    const startOk = readStartOk(frame);
    this.#startOk = startOk;
    this.#frame = frame;
    this.#user = startOk.mechanism === EXTERNAL ? this.#certificate?.user : passwordLoginOf(startOk)?.user;
  }

  /** Decides about what is held: at once, or when the password has been tried. */
  decide(events: LoginEvents): void {
    if (this.#cancel !== undefined) return;
    const startOk = this.#startOk!;
    const { mechanism } = startOk;
    if (mechanism === EXTERNAL) {
      if (this.#certificate !== undefined) this.#letIn(events, this.#certificate.broker);
      else
        this.#refuse(
          events,
          this.#hasCertificate ? "its certificate is nobody's" : 'it has shown no certificate',
        );
      return;
    }
    const given = passwordLoginOf(startOk);
    if (given !== undefined) this.#check(events, given);
    else
      this.#refuse(
        events,
        BY_PASSWORD.has(mechanism) ? 'its response is malformed' : 'the proxy does not take this mechanism',
      );
  }

  #check(events: LoginEvents, given: PasswordLogin): void {
    const { user, password } = given;
    const client = this.#credentials.byUser(user);
    const hash = client?.password ?? this.#credentials.nobody;
    if (hash === undefined || password.length > PASSWORD_MAX) {
      this.#refuse(events, hash === undefined ? 'nobody has a password' : 'its password is too long');
      return;
    }
    let isDone = false;
    const cancel = this.#checks.check(hash, given, (isRight) => {
      isDone = true;
      if (isRight && client !== undefined) this.#letIn(events, client.broker);
      else
        this.#refuse(
          events,
          client === undefined ? `no user '${user}'` : `a wrong password of user '${user}'`,
        );
    });
    if (isDone) return;
    if (cancel === undefined) {
      this.#frame = undefined;
      events.refused(tooMany('more logins wait to be checked than the proxy has room for: try again later'));
      return;
    }
    this.#cancel = cancel;
  }

  #letIn(events: LoginEvents, broker: BrokerLogin | undefined): void {
    const frame = this.#frame!;
    this.#frame = undefined;
    this.#broker = broker;
    events.letIn(
      broker === undefined ? frame : withLogin(frame, 'PLAIN', encodePlain(broker.user, broker.password)),
    );
  }

  #refuse(events: LoginEvents, why: string): void {
    this.#frame = undefined;
    const startOk = this.#startOk!;
    const { mechanism } = startOk;
    // RabbitMQ's words (rabbit_reader of 3.10 to 4.3); why it is so is for those who can read the log.
    const text = `Login was refused using authentication mechanism ${mechanism}. For details see the proxy's log.`;
    events.refused({
      code: 'LOGIN_REFUSED',
      replyCode: REPLY.accessRefused,
      text,
      method: 0,
      silent: !startOk.has('authentication_failure_close'),
      why: `login refused, mechanism ${mechanism}: ${why} (--credentials)`,
    });
  }

  /** The connection has ended: nobody waits for a decision any more. */
  end(): void {
    this.#cancel?.();
    this.#frame = undefined;
  }
}

function passwordLoginOf({ mechanism, response }: StartOk): PasswordLogin | undefined {
  return BY_PASSWORD.get(mechanism)?.(response);
}
