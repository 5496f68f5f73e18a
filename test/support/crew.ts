// The clients of one proxy, of which one has state at the broker and the others have none, for what happens to both when
// the broker goes.
import { drain } from './mixed-turns.ts';
import { declareQueues, SteadyConsumer, SteadyPublisher, until } from './steady.ts';
import { TrafficCheck } from './traffic-check.ts';
import { WireClient } from './wire-client.ts';

/** Publishers of each kind. */
const ABREAST = 2;
/** Milliseconds between two messages: what piles up while the broker is away is read by `conclude`, one by one. */
const PAUSE = 20;
/** Messages that show that a publisher has got on. */
const PROGRESS = 50;

/** The runs of numbers that follow one another. */
function runsOf(numbers: readonly number[]): number {
  return numbers.filter((number, at) => number !== numbers[at - 1]! + 1).length;
}

/** @param name begins the names of its queues, which no other crew has */
export async function startCrew(port: number, name: string) {
  const check = new TrafficCheck();
  const fed = `${name} fed`;
  const open = Array.from({ length: ABREAST }, (_, at) => `${name} ${at}`);
  await declareQueues(port, fed, ...open);
  const consumer = await SteadyConsumer.start(check, port, `${name} consumer`, fed);
  const feeder = await SteadyPublisher.asking(check, port, `${name} feeder`, fed, { pause: PAUSE });
  const plain: SteadyPublisher[] = [];
  const asking = [feeder];
  for (const queue of open) {
    plain.push(await SteadyPublisher.plain(check, port, `${queue} plain`, queue, { pause: PAUSE }));
    asking.push(await SteadyPublisher.asking(check, port, `${queue} asking`, queue, { pause: PAUSE }));
  }
  const idle = await WireClient.connect(port);
  await idle.channel(1);
  const stateless = [idle, ...[...plain, ...asking].map(({ client }) => client)];

  return {
    check,
    consumer,
    /** What those without state were told: nothing, where they noticed nothing. */
    get told(): string[] {
      return stateless.flatMap(({ end }) => end ?? []);
    },

    /** Waits until each publisher gets on, and what is fed arrives where there still is a consumer. */
    async getsOn(): Promise<void> {
      const marks = new Map([...plain, ...asking].map(({ messages }) => [messages, messages.count]));
      const eaten = feeder.messages.arrived;
      const isOn = () =>
        this.told.length > 0 ||
        (asking.every(({ messages }) => messages.confirmed > marks.get(messages)! + PROGRESS) &&
          plain.every(({ messages }) => messages.count > marks.get(messages)! + PROGRESS) &&
          (consumer.client.end !== undefined || feeder.messages.arrived > eaten + PROGRESS));
      await until(`${name}: progress`, isOn);
    },

    /**
     * Lets all finish, reads what is left out of the queues and tells what went wrong. What publishers without confirms
     * sent may be lost in as many places as `losses` says, and not at the end.
     * @param direct port of the broker
     */
    async conclude(direct: number, losses: number): Promise<string[]> {
      await Promise.all([...plain, ...asking].map(async (publisher) => publisher.stop()));
      if (consumer.client.end === undefined)
        await until(`${name}: what was fed`, () => feeder.messages.arrived >= feeder.messages.confirmed);
      await consumer.stop();
      await idle.close();
      for (const { messages } of plain) messages.owe(messages.count - PROGRESS);
      const reader = await WireClient.connect(direct);
      await Promise.all(
        [fed, ...open].map(async (queue, at) => drain(check, await reader.channel(at + 1), queue)),
      );
      await reader.close();
      const torn = plain.filter(({ messages }) => runsOf(messages.missing) > losses);
      return [
        ...[consumer.client, ...stateless].flatMap(({ faults }) => faults),
        ...torn.map(({ messages }) => `${messages.name} lacks ${messages.missing.join()}`),
        ...check.conclude(),
      ];
    },
  };
}

export type Crew = Awaited<ReturnType<typeof startCrew>>;
