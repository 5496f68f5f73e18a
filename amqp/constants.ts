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

/** The methods that this project reads or writes; numbers from the AMQP 0-9-1 XML. */
export const METHOD = {
  connectionStart: id(10, 10),
  connectionStartOk: id(10, 11),
  connectionTune: id(10, 30),
  connectionTuneOk: id(10, 31),
  connectionOpen: id(10, 40),
  connectionOpenOk: id(10, 41),
  connectionClose: id(10, 50),
  connectionCloseOk: id(10, 51),
  channelOpen: id(20, 10),
  channelOpenOk: id(20, 11),
  channelClose: id(20, 40),
  channelCloseOk: id(20, 41),
  exchangeDeclare: id(40, 10),
  queueDeclare: id(50, 10),
  queueDeclareOk: id(50, 11),
  queueDelete: id(50, 40),
  basicQos: id(60, 10),
  basicConsume: id(60, 20),
  basicConsumeOk: id(60, 21),
  basicCancel: id(60, 30),
  basicCancelOk: id(60, 31),
  basicPublish: id(60, 40),
} as const;

/** Reply codes of AMQP 0-9-1 section 1.2 (constants) that the proxy itself raises. */
export const REPLY = {
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
  notAllowed: 530,
  internalError: 541,
} as const;

/** The names that brokers put before a reply text, by code. */
export const REPLY_NAME: Readonly<Record<number, string>> = {
  320: 'CONNECTION_FORCED',
  403: 'ACCESS_REFUSED',
  406: 'PRECONDITION_FAILED',
  501: 'FRAME_ERROR',
  502: 'SYNTAX_ERROR',
  503: 'COMMAND_INVALID',
  504: 'CHANNEL_ERROR',
  505: 'UNEXPECTED_FRAME',
  530: 'NOT_ALLOWED',
  541: 'INTERNAL_ERROR',
};
