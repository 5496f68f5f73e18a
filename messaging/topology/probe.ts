// A file held against a broker whose management API can't be asked: by AMQP alone.
import type { Channel, ChannelModel } from 'amqplib';
import { messageOf } from '../../common/errors.ts';
import { answered } from '../answered.ts';
import type { ArgumentValue, Arguments } from '../config/kinds.ts';
import { BrokerFailure } from '../errors.ts';
import type { Declaration, ExchangeDeclaration, QueueDeclaration } from './declarations.ts';
import { type Inequivalent, parseInequivalent } from './inequivalent.ts';
import { type Difference, type PlanItem, wayOut } from './plan.ts';

/** No queue and no exchange has as many properties and arguments. */
const FIELDS_MAX = 32;

/**
 * Quorum queues refuse this argument when they are made, and don't look at it when they are there: a declare that carries it can
 * tell what differs, and can't make a queue that was deleted a moment ago.
 */
const GUARD: Arguments = { 'x-max-priority': 1 };

/**
 * What becomes of each declaration. A passive declare tells what is there; what is there is declared as the file has it, which
 * changes nothing: the broker takes it or says what differs, one field at a time. It doesn't look at arguments that queues of the
 * type that is there don't have. Bindings can't be asked for.
 * @param timeoutMs how long each answer may take
 * @throws BrokerFailure where the broker doesn't allow that
 */
export async function probe(
  model: ChannelModel,
  declarations: readonly Declaration[],
  timeoutMs: number,
): Promise<readonly PlanItem[]> {
  const items: PlanItem[] = [];
  for (const declaration of declarations) {
    if (declaration.kind === 'binding') items.push({ declaration, status: 'unknown', differences: [] });
    else items.push(await probeOne({ model, timeoutMs }, declaration));
  }
  return items;
}

/** Who is asked, and how long each answer may take. */
interface Asking {
  readonly model: ChannelModel;
  readonly timeoutMs: number;
}

async function probeOne(
  asking: Asking,
  declaration: ExchangeDeclaration | QueueDeclaration,
): Promise<PlanItem> {
  const { kind, name, declare } = declaration;
  const isThere = await onChannel(asking, async (channel) => {
    if (kind === 'queue') await channel.checkQueue(name);
    else await channel.checkExchange(name);
  });
  if (isThere !== undefined) {
    if (isThere.code !== 404) throw refused(declaration, isThere.message);
    return { declaration, status: declare ? 'create' : 'missing', differences: [] };
  }
  const differences = declare ? await differencesOf(asking, declaration) : [];
  return { declaration, status: differences.length === 0 ? 'same' : 'conflict', differences };
}

/** Declares it again with the broker's word for what differed, until the broker finds nothing more. */
async function differencesOf(
  asking: Asking,
  declaration: ExchangeDeclaration | QueueDeclaration,
): Promise<Difference[]> {
  const differences: Difference[] = [];
  let asked: Asked = { properties: {}, arguments: declaration.arguments };
  for (let field = 0; field < FIELDS_MAX; field += 1) {
    const current = asked;
    const failure = await onChannel(asking, (channel) => redeclare(channel, declaration, current));
    if (failure === undefined) return differences;
    const found = foundIn(failure.message, current);
    if (found === undefined || differences.some((one) => one.field === found.field))
      throw refused(declaration, failure.message);
    differences.push({
      field: found.field,
      want: found.received,
      have: found.current,
      wayOut: wayOut(declaration, found.field, found.current),
    });
    asked = withCurrent(asked, found);
  }
  return differences;
}

/** Undefined for a refusal of another sort. */
function foundIn(message: string, { arguments: table }: Asked): Inequivalent | undefined {
  const found = parseInequivalent(message);
  // Classic queues do compare the guard: then that is what tells them from quorum queues.
  if (found?.field === 'x-max-priority' && isGuarded(table))
    return { field: 'x-queue-type', received: 'quorum', current: 'classic' };
  return found;
}

function isGuarded(table: Arguments): boolean {
  return table['x-queue-type'] === 'quorum';
}

interface Asked {
  /** durable, auto_delete, internal, type, where the broker has others than the file. */
  readonly properties: Readonly<Record<string, ArgumentValue>>;
  readonly arguments: Arguments;
}

function withCurrent({ properties, arguments: table }: Asked, { field, current }: Inequivalent): Asked {
  if (!field.includes('-'))
    return { properties: { ...properties, [field]: current ?? '' }, arguments: table };
  const { [field]: _, ...others } = table;
  return { properties, arguments: current === undefined ? others : { ...others, [field]: current } };
}

async function redeclare(
  channel: Channel,
  declaration: ExchangeDeclaration | QueueDeclaration,
  { properties, arguments: table }: Asked,
): Promise<void> {
  const autoDelete = properties['auto_delete'] === true;
  if (declaration.kind === 'queue') {
    const guard = isGuarded(table) ? GUARD : {};
    const durable = properties['durable'] !== false;
    await channel.assertQueue(declaration.name, { durable, autoDelete, arguments: { ...table, ...guard } });
    return;
  }
  const { type = declaration.type } = properties;
  await channel.assertExchange(declaration.name, type as string, {
    durable: (properties['durable'] ?? declaration.durable) === true,
    internal: properties['internal'] === true,
    autoDelete,
    arguments: table,
  });
}

/** Runs it on a channel of its own, for a refusal ends the channel. Resolves to why it was refused. */
async function onChannel(
  { model, timeoutMs }: Asking,
  run: (channel: Channel) => Promise<void>,
): Promise<{ code: number | undefined; message: string } | undefined> {
  const channel = await answered(timeoutMs, 'channel.open', model.createChannel());
  // The same refusal rejects the call.
  channel.on('error', () => {});
  try {
    await answered(timeoutMs, 'the declaration', run(channel));
  } catch (error) {
    channel.close().catch(() => {}); // it has ended already
    return { code: (error as { code?: number }).code, message: messageOf(error) };
  }
  await answered(timeoutMs, 'channel.close', channel.close());
  return undefined;
}

function refused({ kind, name }: ExchangeDeclaration | QueueDeclaration, message: string): BrokerFailure {
  return new BrokerFailure(`${kind} ${JSON.stringify(name)}: ${message}`);
}
