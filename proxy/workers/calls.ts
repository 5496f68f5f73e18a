import { messageOf, UsageError } from '../../common/errors.ts';

// Functions of another process, over the channel that Node has between parent and child. What they take and answer passes
// through JSON.

interface Call {
  readonly call: number;
  readonly name: string;
  readonly args: readonly unknown[];
}

interface Reply {
  readonly reply: number;
  readonly result?: unknown;
  readonly error?: { readonly text: string; readonly isUsage: boolean };
}

/** One end of the channel: a process, or a worker as its primary has it. */
export interface Channel {
  send(message: object, sent: (error: Error | null) => void): unknown;
  on(event: 'message', listener: (message: unknown) => void): unknown;
  off(event: 'message', listener: (message: unknown) => void): unknown;
}

type Functions = Readonly<Record<string, (...args: never[]) => unknown>>;

/** How long an answer may take unless the call says otherwise, in milliseconds. */
const PATIENCE = 10_000;

/** Lets the other end call the functions. */
export function serveCalls(channel: Channel, functions: Functions): void {
  const answer = async ({ call, name, args }: Call): Promise<Reply> => {
    try {
      return { reply: call, result: await functions[name]!(...(args as never[])) };
    } catch (error) {
      return { reply: call, error: { text: messageOf(error), isUsage: error instanceof UsageError } };
    }
  };
  channel.on('message', (message) => {
    if (!has(message, 'call')) return;
    // Where nobody is left to be told, this process is about to end, too.
    void answer(message as unknown as Call).then((reply) => channel.send(reply, () => {}));
  });
}

/** Calls functions of the other end. */
export class Caller<F extends Functions> {
  readonly #channel: Channel;
  readonly #waiting = new Map<number, (reply: Reply) => void>();
  #last = 0;

  constructor(channel: Channel) {
    this.#channel = channel;
    channel.on('message', this.#receive);
  }

  readonly #receive = (message: unknown): void => {
    if (!has(message, 'reply')) return;
    const reply = message as unknown as Reply;
    this.#waiting.get(reply.reply)?.(reply);
  };

  /**
   * Calls one.
   * @param patience milliseconds that the answer may take
   * @throws UsageError or Error as the function has, or Error where no answer comes
   */
  async call<K extends keyof F & string>(
    name: K,
    args: Parameters<F[K]>,
    patience = PATIENCE,
  ): Promise<Awaited<ReturnType<F[K]>>> {
    const call = ++this.#last;
    const none = (text: string): Reply => ({ reply: call, error: { text, isUsage: false } });
    const { promise, resolve } = Promise.withResolvers<Reply>();
    this.#waiting.set(call, resolve);
    const timer = setTimeout(() => resolve(none(`no answer within ${patience / 1000} s`)), patience);
    this.#channel.send({ call, name, args } satisfies Call, (error) => {
      if (error !== null) resolve(none(messageOf(error)));
    });
    const { result, error } = await promise;
    clearTimeout(timer);
    this.#waiting.delete(call);
    if (error === undefined) return result as Awaited<ReturnType<F[K]>>;
    throw error.isUsage ? new UsageError(error.text) : new Error(error.text);
  }

  /** Nobody answers any more. */
  end(why: string): void {
    this.#channel.off('message', this.#receive);
    for (const [call, settle] of this.#waiting) settle({ reply: call, error: { text: why, isUsage: false } });
  }
}

function has<K extends string>(message: unknown, key: K): message is Record<K, unknown> {
  return typeof message === 'object' && message !== null && key in message;
}
