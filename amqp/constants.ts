/** Frame types, AMQP 0-9-1 section 4.2.3 (and the grammar of 4.2.1). */
export const FRAME_METHOD = 1;
export const FRAME_HEADER = 2;
export const FRAME_BODY = 3;
export const FRAME_HEARTBEAT = 8;

/** The octet that ends every frame. */
export const FRAME_END = 0xce;

/** Octets of a frame that are not payload: type, channel, size and the end octet. */
export const FRAME_OVERHEAD = 8;

/** Octets before the payload. */
export const FRAME_HEADER_SIZE = 7;

/** "AMQP" 0 0 9 1: what a client sends first, and a server answers to any other header (section 4.2.2). */
export const PROTOCOL_HEADER: Uint8Array = Uint8Array.of(0x41, 0x4d, 0x51, 0x50, 0, 0, 9, 1);

/** Every frame_max that peers agree on is at least this (section 4.2.3, frame-min-size). */
export const FRAME_MIN_SIZE = 4096;

/** A method's class and method ids in one number: class in the upper 16 bits, as on the wire. */
function id(classId: number, methodId: number): number {
  return classId * 0x10000 + methodId;
}

/** All methods; numbers from the AMQP 0-9-1 XML, with RabbitMQ's own (its amqp0-9-1.extended.xml). */
export const METHOD = {
  connectionStart: id(10, 10),
  connectionStartOk: id(10, 11),
  connectionSecure: id(10, 20),
  connectionSecureOk: id(10, 21),
  connectionTune: id(10, 30),
  connectionTuneOk: id(10, 31),
  connectionOpen: id(10, 40),
  connectionOpenOk: id(10, 41),
  connectionClose: id(10, 50),
  connectionCloseOk: id(10, 51),
  connectionBlocked: id(10, 60),
  connectionUnblocked: id(10, 61),
  connectionUpdateSecret: id(10, 70),
  connectionUpdateSecretOk: id(10, 71),
  channelOpen: id(20, 10),
  channelOpenOk: id(20, 11),
  channelFlow: id(20, 20),
  channelFlowOk: id(20, 21),
  channelClose: id(20, 40),
  channelCloseOk: id(20, 41),
  accessRequest: id(30, 10),
  accessRequestOk: id(30, 11),
  exchangeDeclare: id(40, 10),
  exchangeDeclareOk: id(40, 11),
  exchangeDelete: id(40, 20),
  exchangeDeleteOk: id(40, 21),
  exchangeBind: id(40, 30),
  exchangeBindOk: id(40, 31),
  exchangeUnbind: id(40, 40),
  exchangeUnbindOk: id(40, 51),
  queueDeclare: id(50, 10),
  queueDeclareOk: id(50, 11),
  queueBind: id(50, 20),
  queueBindOk: id(50, 21),
  queuePurge: id(50, 30),
  queuePurgeOk: id(50, 31),
  queueDelete: id(50, 40),
  queueDeleteOk: id(50, 41),
  queueUnbind: id(50, 50),
  queueUnbindOk: id(50, 51),
  basicQos: id(60, 10),
  basicQosOk: id(60, 11),
  basicConsume: id(60, 20),
  basicConsumeOk: id(60, 21),
  basicCancel: id(60, 30),
  basicCancelOk: id(60, 31),
  basicPublish: id(60, 40),
  basicReturn: id(60, 50),
  basicDeliver: id(60, 60),
  basicGet: id(60, 70),
  basicGetOk: id(60, 71),
  basicGetEmpty: id(60, 72),
  basicAck: id(60, 80),
  basicReject: id(60, 90),
  basicRecoverAsync: id(60, 100),
  basicRecover: id(60, 110),
  basicRecoverOk: id(60, 111),
  basicNack: id(60, 120),
  confirmSelect: id(85, 10),
  confirmSelectOk: id(85, 11),
  txSelect: id(90, 10),
  txSelectOk: id(90, 11),
  txCommit: id(90, 20),
  txCommitOk: id(90, 21),
  txRollback: id(90, 30),
  txRollbackOk: id(90, 31),
} as const;

/** Reply codes of AMQP 0-9-1 section 1.2 (constants) that the proxy itself raises. */
export const REPLY = {
  replySuccess: 200,
  connectionForced: 320,
  accessRefused: 403,
  notFound: 404,
  resourceLocked: 405,
  preconditionFailed: 406,
  frameError: 501,
  syntaxError: 502,
  commandInvalid: 503,
  channelError: 504,
  unexpectedFrame: 505,
  resourceError: 506,
  notAllowed: 530,
  notImplemented: 540,
  internalError: 541,
} as const;

/** The names that brokers put before a reply text, by code. */
export const REPLY_NAME: Readonly<Record<number, string>> = {
  320: 'CONNECTION_FORCED',
  403: 'ACCESS_REFUSED',
  404: 'NOT_FOUND',
  405: 'RESOURCE_LOCKED',
  406: 'PRECONDITION_FAILED',
  501: 'FRAME_ERROR',
  502: 'SYNTAX_ERROR',
  503: 'COMMAND_INVALID',
  504: 'CHANNEL_ERROR',
  505: 'UNEXPECTED_FRAME',
  506: 'RESOURCE_ERROR',
  530: 'NOT_ALLOWED',
  540: 'NOT_IMPLEMENTED',
  541: 'INTERNAL_ERROR',
};

/** No octets. One for all: each empty array is 200 octets of memory. */
export const NOTHING: Uint8Array = new Uint8Array(0);
