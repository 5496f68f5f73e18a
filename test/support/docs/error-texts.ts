// What docs/errors.md says of each error code. A code without a text is an error of types.
import type { ProxyErrorCode } from '../../../proxy/errors.ts';
import type { CONDITION_REASONS } from '../../../reconciler/conditions.ts';
import type { RequestErrorReason } from '../../../webhook/errors.ts';

/** Transient: it may work when tried again. Permanent: it won't, before somebody changes something. */
export type ErrorClass = 'transient' | 'permanent';

export interface ErrorText {
  readonly happened: string;
  /** What the client sees. */
  readonly told: string;
  readonly remedy: string;
}

export const PROXY_ERROR_TEXTS: Readonly<Record<ProxyErrorCode, ErrorText>> = {
  BACKEND_UNREACHABLE: {
    happened: 'the connection to the backend failed, in mode pool for all of `--pool-wait-timeout`',
    told: '320',
    remedy:
      'see whether RabbitMQ runs and listens at `--backend`; with `--backend-tls`, whether its certificate is good',
  },
  BACKEND_CONNECT_TIMEOUT: {
    happened: 'the backend took longer than `--connect-timeout`',
    told: '320',
    remedy: 'see whether RabbitMQ is overloaded or a network policy drops the packets',
  },
  BREAKER_OPEN: {
    happened: 'the circuit breaker was open; also on the line that says why it opens',
    told: '320, at once',
    remedy:
      'the line says how connections to the backend fail: [when the backend is away](proxy.md#when-the-backend-is-away)',
  },
  BACKEND_LOST: {
    happened: 'the broker ended an open connection without `connection.close`, in mode pool in whatever way',
    told: '320',
    remedy: 'see RabbitMQ’s log: a crash, a restart or a lost node',
  },
  BACKEND_PROTOCOL: {
    happened: 'the backend’s octets are no AMQP frames',
    told: '541',
    remedy: 'see whether `--backend` is RabbitMQ’s AMQP listener and both sides agree on TLS',
  },
  CLIENT_PROTOCOL_HEADER: {
    happened:
      'the client’s first octets are not AMQP (mode pool, `--user-vhosts` and `--credentials`: not AMQP 0-9-1); the line says what they look like',
    told: 'the header of AMQP 0-9-1, then the end of the socket',
    remedy: 'point the client at the right port, or make both sides use TLS',
  },
  CLIENT_FRAME: {
    happened: 'the client sent a malformed frame',
    told: 'the reply code in the line: 501 to 505',
    remedy: 'a bug of the client or its library; the text says which rule it broke',
  },
  CLIENT_FRAME_MAX: {
    happened: 'the broker sent a method or content header larger than the client’s `frame_max`, below 8192',
    told: '501',
    remedy:
      'raise the client’s `frame_max`, or upgrade its library (amqplib from 0.10.7, rabbitmq-client from 5.0.3)',
  },
  CLIENT_PROXY_HEADER: {
    happened:
      'a connection from an address in `--trust-proxy-protocol` didn’t begin with a header of PROXY protocol version 2',
    told: 'the end of the socket',
    remedy: 'turn it on in the load balancer (`send-proxy-v2`), or take the address out',
  },
  CLIENT_TLS: {
    happened: 'the TLS handshake failed, or the client asked for another one (renegotiation)',
    told: 'an alert of TLS, or the end of the socket',
    remedy: 'the client speaks no TLS, only versions before 1.2, or doesn’t trust the certificate',
  },
  CLIENT_CERTIFICATE: {
    happened: 'the certificate that the client showed was refused',
    told: 'an alert of TLS',
    remedy: 'give the client one of the authorities in `--tls-ca`, or none with `--tls-client-auth=request`',
  },
  CLIENT_PROTOCOL: {
    happened:
      'mode pool: the client did what a broker closes the connection for, or what pool mode can’t carry',
    told: 'the reply code in the line',
    remedy:
      'a bug of the client, or [what pool mode can’t do](pool.md#errors); its next connections get one of their own to the broker',
  },
  CLIENT_LOST: {
    happened:
      'an open connection ended without `connection.close`; in mode pool also a client from which nothing came for two heartbeat intervals',
    told: 'nothing: it is gone',
    remedy: 'nothing, unless it is frequent: clients crash or are killed, or a network drops connections',
  },
  HANDSHAKE_TIMEOUT: {
    happened: 'no `connection.open-ok` within `--handshake-timeout`',
    told: '320; the end of the socket where it has not said what it speaks',
    remedy: 'see whether the client or the broker is overloaded',
  },
  IDLE_TIMEOUT: {
    happened: 'no octet in either direction for `--idle-timeout`',
    told: '320, and so is the broker',
    remedy: 'turn heartbeats on, or the timeout off',
  },
  CONNECTION_LIMIT: {
    happened:
      'a limit of connections or of new ones a second was reached, or too many logins waited to be checked (`--credentials`)',
    told: '320, or 530 where the limit is its user’s or virtual host’s',
    remedy:
      'the line says which limit: raise it (for `--max-connections` the memory too), or find who connects so often: [limits.md](limits.md)',
  },
  CHANNEL_LIMIT: {
    happened: 'the client asked for more channels than `--max-channels-per-client`',
    told: '530',
    remedy: 'raise the limit, or let the client take the `channel_max` that it is offered',
  },
  FRAME_LIMIT: {
    happened: 'the client asked for longer frames than `--max-frame-size`',
    told: '530',
    remedy: 'raise the limit, or let the client take the `frame_max` that it is offered',
  },
  BUFFER_LIMIT: {
    happened:
      'more was held of the client than `--max-buffer-per-client`, or for too long beyond `--max-buffer`',
    told: '320',
    remedy:
      'see why the client does not read, or begins many messages at once; or raise the limit: [limits.md](limits.md#what-the-proxy-holds)',
  },
  ACCESS_REFUSED: {
    happened: 'the client’s address, its user or the virtual host is not let in',
    told: 'what [limits.md](limits.md#who-may-come) has',
    remedy: 'the line says by which option',
  },
  LOGIN_REFUSED: {
    happened:
      'the client’s login is not in `--credentials`; or, in mode pool, the broker refused its user, password or virtual host',
    told: '403 or the end of the socket; from the broker its own answer',
    remedy:
      'the line says why: correct the login, [the credentials](access.md), or the user’s permissions in RabbitMQ',
  },
  POOL_EXHAUSTED: {
    happened: 'mode pool: no channel to the broker within `--pool-wait-timeout`',
    told: '506',
    remedy:
      'raise `--max-upstream-connections` or `--max-channels-per-connection`, or find what keeps channels: [pool.md](pool.md#sizing)',
  },
  SHARED_LIMIT: {
    happened: 'mode pool: the client read too slowly, or sent too much, for a connection that it shares',
    told: '320',
    remedy:
      'nothing: its next connections get one of their own to the broker; frequent: [pool.md](pool.md#clients-that-read-slowly)',
  },
  EXCLUSIVE_MOVE: {
    happened:
      'mode pool: the client needs a connection of its own to the broker and could not be moved to it',
    told: '320',
    remedy: 'nothing: it gets one when it connects again',
  },
  ADMIN_CLOSED: {
    happened: 'an operator closed the connection by the admin API ([admin.md](admin.md))',
    told: '320',
    remedy: 'nothing',
  },
  FAULT_INJECTED: {
    happened:
      'an operator severed the connection by the admin API, to rehearse a failover: [admin.md](admin.md#rehearsing-a-failover)',
    told: 'nothing, or 320 where the side of the broker was severed',
    remedy: 'nothing',
  },
  DRAIN: {
    happened: 'the proxy is shutting down',
    told: '320',
    remedy:
      'nothing: clients connect again, to another proxy; raise `--drain-timeout` where the text says that the time was over',
  },
  INTERNAL: {
    happened: 'a bug in the proxy; that one connection was ended',
    told: 'the end of the socket',
    remedy: 'report it with the log line',
  },
};

export const WEBHOOK_ERROR_TEXTS: Readonly<
  Record<
    RequestErrorReason,
    { readonly class: ErrorClass; readonly happened: string; readonly remedy: string }
  >
> = {
  NotJson: {
    class: 'permanent',
    happened: 'the body is empty, not UTF-8 or not JSON',
    remedy: 'something else than an API server calls',
  },
  NestedTooDeeply: {
    class: 'permanent',
    happened: 'the body nests more than 10000 levels deep, which no API server sends; it is not even parsed',
    remedy: 'something else than an API server calls',
  },
  NotAnAdmissionReview: {
    class: 'permanent',
    happened: 'the body is JSON of another kind',
    remedy: 'something else than an API server calls',
  },
  UnsupportedReviewVersion: {
    class: 'permanent',
    happened: 'a review of another version than `admission.k8s.io/v1`',
    remedy: 'set `admissionReviewVersions: [v1]` in the registration',
  },
  InvalidReview: {
    class: 'permanent',
    happened: 'a field is missing or of the wrong type; the message names it and its value',
    remedy: 'something else than an API server calls',
  },
  UnknownKind: {
    class: 'permanent',
    happened:
      '`/mutate`: an object other than `rabbitmq.com/v1beta1` RabbitmqCluster, `apps/v1` StatefulSet and `rabbitmq.openstack.org/v1beta1` RabbitMq; `/validate`: other than RabbitMq and RabbitmqCluster',
    remedy: 'correct the rules of the registration',
  },
  BadRequest: {
    class: 'permanent',
    happened: 'HTTP that can’t be understood',
    remedy: 'something else than an API server calls',
  },
  NotFound: {
    class: 'permanent',
    happened: 'another path than `/mutate` and `/validate`',
    remedy: 'correct `clientConfig.service.path` of the registration',
  },
  MethodNotAllowed: {
    class: 'permanent',
    happened: 'another method than POST',
    remedy: 'something else than an API server calls',
  },
  RequestEntityTooLarge: {
    class: 'permanent',
    happened:
      'a body of more than 8 MiB; an API server takes objects of up to 3 MiB and an update carries two',
    remedy: 'something else than an API server calls',
  },
  UnsupportedMediaType: {
    class: 'permanent',
    happened: 'a Content-Type other than `application/json`, or a Content-Encoding',
    remedy: 'something else than an API server calls',
  },
  InternalError: {
    class: 'permanent',
    happened:
      'an error of the webhook itself: it is logged with its stack and counted, and the answer does not repeat it',
    remedy: 'report it with the log line; an API server may ask another replica',
  },
};

type Reasons = typeof CONDITION_REASONS;

/** Reasons of conditions that say that something doesn't go on, or not as it is meant to. */
export const RECONCILER_ERRORS: {
  readonly [
    T in 'UpgradeAllowed' | 'Degraded' | 'DefinitionsPreserved' | 'ProxyActive' | 'ProxyRemovable'
  ]: Readonly<Partial<Record<keyof Reasons[T], ErrorClass>>>;
} = {
  UpgradeAllowed: {
    UnsupportedPath: 'permanent',
    ImageUnknown: 'permanent',
    ClusterNotHealthy: 'transient',
    OperatorPaused: 'permanent',
    StorageNotHealthy: 'transient',
    CredentialsMissing: 'permanent',
    ClusterRefused: 'permanent',
    BrokerUnreachable: 'transient',
    VersionMismatch: 'permanent',
    MessagesWouldBeLost: 'transient',
    MessagesNotCounted: 'transient',
    BackupIncomplete: 'transient',
    ApprovalRequired: 'permanent',
  },
  Degraded: {
    PodsStuck: 'transient',
    ClusterRecreated: 'permanent',
    ClusterVanished: 'permanent',
    BackupLost: 'permanent',
    ClusterNotReadyInTime: 'transient',
    ProxyMissing: 'permanent',
    UnknownUpgrade: 'permanent',
    StepFailed: 'transient',
  },
  DefinitionsPreserved: { PartlyRestored: 'permanent' },
  ProxyActive: { NotInjected: 'transient' },
  ProxyRemovable: { NotKnown: 'transient', InvalidAnnotation: 'permanent' },
};
