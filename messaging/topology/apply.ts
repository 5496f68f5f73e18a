import type { Channel, ChannelModel } from 'amqplib';
import { messageOf } from '../../common/errors.ts';
import type { MessagingConfig } from '../config.ts';
import { versionOf } from '../connection.ts';
import { BrokerFailure } from '../errors.ts';
import { type BindingDeclaration, type Declaration, declarations } from './declarations.ts';
import type { ObservedQueue } from './observed.ts';
import { describeDeclaration } from './text.ts';

/**
 * Declares the topology of a configuration, as the broker's version needs it; a Publisher's `onOpen` may do so.
 * @throws BrokerFailure as `declareTopology` does
 */
export async function declareAll(
  model: ChannelModel,
  config: Pick<MessagingConfig, 'exchanges'>,
): Promise<void> {
  await declareTopology(model, declarations(config, versionOf(model)));
}

/**
 * Declares everything in its order; what is there already stays as it is. What others declare is only looked for.
 * @throws BrokerFailure that names the first thing the broker refused; what came before it is declared
 */
export async function declareTopology(
  model: ChannelModel,
  declarations: readonly Declaration[],
): Promise<void> {
  const channel = await model.createChannel();
  // The same refusal rejects the call.
  channel.on('error', () => {});
  for (const declaration of declarations) {
    try {
      await declareOne(channel, declaration);
    } catch (error) {
      throw new BrokerFailure(`${describeDeclaration(declaration)}: ${messageOf(error)}`);
    }
  }
  await channel.close();
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
 * @throws BrokerFailure that names such a queue, or what the broker refused
 */
export async function deleteTopology(model: ChannelModel, deletions: Deletions): Promise<void> {
  const channel = await model.createChannel();
  // The same refusal rejects the call.
  channel.on('error', () => {});
  const run = async (what: string, work: () => Promise<unknown>): Promise<void> => {
    try {
      await work();
    } catch (error) {
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
  await channel.close();
}
