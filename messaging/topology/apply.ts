import type { Channel, ChannelModel } from 'amqplib';
import { messageOf } from '../../common/errors.ts';
import { answered } from '../answered.ts';
import type { MessagingConfig } from '../config.ts';
import { versionOf } from '../connection.ts';
import { BrokerFailure, NoAnswer } from '../errors.ts';
import { type BindingDeclaration, type Declaration, declarations } from './declarations.ts';
import { parseInequivalent } from './inequivalent.ts';
import type { ObservedQueue } from './observed.ts';
import { describeDeclaration, differenceText } from './text.ts';

/** What the broker did not declare. */
export interface Refusal {
  readonly declaration: Declaration;
  /** With what differs, where that is why. */
  readonly reason: string;
  /** False: the broker has not said a word. */
  readonly isAnswered: boolean;
}

/**
 * Declares the topology of a configuration, as the broker's version needs it; a Publisher's `onOpen` may do so.
 * @throws BrokerFailure as `declareTopology` does
 */
export async function declareAll(
  model: ChannelModel,
  { exchanges, connection }: Pick<MessagingConfig, 'exchanges' | 'connection'>,
): Promise<void> {
  const { connectTimeoutMs } = connection;
  await declareTopology(model, declarations({ exchanges }, versionOf(model)), connectTimeoutMs);
}

/**
 * Declares everything in its order; what is there already stays as it is. What others declare is only looked for.
 * @param timeoutMs how long each answer may take
 * @throws BrokerFailure that names the first thing the broker refused; what came before it is declared
 */
export async function declareTopology(
  model: ChannelModel,
  declarations: readonly Declaration[],
  timeoutMs: number,
): Promise<void> {
  await declare(model, declarations, timeoutMs, (refusal) => {
    throw new (refusal.isAnswered ? BrokerFailure : NoAnswer)(refusalText(refusal));
  });
}

/**
 * The same, and goes on behind what the broker refuses.
 * @returns what that is
 * @throws Error where the connection ends
 */
export async function declareEach(
  model: ChannelModel,
  declarations: readonly Declaration[],
  timeoutMs: number,
): Promise<readonly Refusal[]> {
  const refusals: Refusal[] = [];
  await declare(model, declarations, timeoutMs, (refusal) => refusals.push(refusal));
  return refusals;
}

export function refusalText({ declaration, reason }: Refusal): string {
  return `${describeDeclaration(declaration)}: ${reason}`;
}

async function declare(
  model: ChannelModel,
  declarations: readonly Declaration[],
  timeoutMs: number,
  onRefusal: (refusal: Refusal) => void,
): Promise<void> {
  let channel: Channel | undefined;
  for (const declaration of declarations) {
    channel ??= await openChannel(model, timeoutMs);
    try {
      await answered(timeoutMs, 'the declaration', declareOne(channel, declaration));
    } catch (error) {
      // A refusal ends the channel; of one without an answer nothing more is to be expected.
      leave(channel);
      channel = undefined;
      const refusal = { declaration, reason: reasonOf(error), isAnswered: !(error instanceof NoAnswer) };
      // Without a code it is the connection that has ended.
      const { code } = error as { readonly code?: unknown };
      if (refusal.isAnswered && typeof code !== 'number') throw new BrokerFailure(refusalText(refusal));
      onRefusal(refusal);
    }
  }
  if (channel !== undefined) leave(channel);
}

async function openChannel(model: ChannelModel, timeoutMs: number): Promise<Channel> {
  const channel = await answered(timeoutMs, 'channel.open', model.createChannel());
  // The same refusal rejects the call.
  channel.on('error', () => {});
  return channel;
}

/** The broker need not agree to it in time. */
function leave(channel: Channel): void {
  channel.close().catch(() => {}); // it has ended already
}

function reasonOf(error: unknown): string {
  const found = parseInequivalent(messageOf(error));
  if (found === undefined) return messageOf(error);
  const { field, received, current } = found;
  return `${differenceText(field, received, current)}; quorumbridge topology plan tells the way out`;
}

async function declareOne(channel: Channel, declaration: Declaration): Promise<void> {
  const { kind, arguments: table } = declaration;
  if (kind === 'binding') {
    const { destination, source, routingKey } = declaration;
    await channel.bindQueue(destination, source, routingKey, table);
  } else if (kind === 'queue') {
    if (declaration.declare) await channel.assertQueue(declaration.name, { durable: true, arguments: table });
    else await channel.checkQueue(declaration.name);
  } else if (declaration.declare) {
    const { name, type, durable } = declaration;
    await channel.assertExchange(name, type, { durable, arguments: table });
  } else await channel.checkExchange(declaration.name);
}

/** What is to be taken off a broker, each thing by its own condition. */
export interface Deletions {
  /** To be made anew: only while they are empty and nobody consumes. */
  readonly queues: readonly Pick<ObservedQueue, 'name' | 'type'>[];
  /** To be made anew. */
  readonly exchanges: readonly string[];
  readonly bindings: readonly BindingDeclaration[];
}

/**
 * Deletes bindings, queues and exchanges, after all queues have been looked at: where one holds messages or has consumers, nothing
 * is deleted.
 * @param timeoutMs how long each answer may take
 * @throws BrokerFailure that names such a queue, or what the broker refused
 */
export async function deleteTopology(
  model: ChannelModel,
  deletions: Deletions,
  timeoutMs: number,
): Promise<void> {
  const channel = await openChannel(model, timeoutMs);
  const run = async (what: string, work: () => Promise<unknown>): Promise<void> => {
    try {
      await answered(timeoutMs, 'the request', work());
    } catch (error) {
      leave(channel);
      throw error instanceof BrokerFailure ? error : new BrokerFailure(`${what}: ${messageOf(error)}`);
    }
  };
  const checkFree = async (name: string): Promise<void> => {
    const { messageCount, consumerCount } = await channel.checkQueue(name);
    if (messageCount > 0 || consumerCount > 0) {
      throw new BrokerFailure(
        `queue ${JSON.stringify(name)} is not deleted: it holds ${messageCount} messages and has ${consumerCount} consumers; stop its clients and empty it first`,
      );
    }
  };
  for (const { name } of deletions.queues) await run(`queue ${JSON.stringify(name)}`, () => checkFree(name));
  for (const binding of deletions.bindings) {
    const { destination, source, routingKey, arguments: table } = binding;
    await run(describeDeclaration(binding), () =>
      channel.unbindQueue(destination, source, routingKey, table),
    );
  }
  for (const { name, type } of deletions.queues) {
    await run(`queue ${JSON.stringify(name)}`, async () => {
      await checkFree(name);
      // Quorum queues refuse these conditions and end the connection: having looked just now is as near as one gets.
      await channel.deleteQueue(name, type === 'classic' ? { ifUnused: true, ifEmpty: true } : {});
    });
  }
  for (const name of deletions.exchanges)
    await run(`exchange ${JSON.stringify(name)}`, () => channel.deleteExchange(name));
  leave(channel);
}
