// A task queue: tasks of five kinds are submitted with confirms, and worked on.
//   node messaging/examples/tasks.ts submit   submits some of each kind
//   node messaging/examples/tasks.ts work     works until it is told to end
//   node messaging/examples/tasks.ts          both
import { join } from 'node:path';
import { type Context, Consumers, Publisher, declareAll, loadConfig } from '../index.ts';
import { run, tellFailures, untilTold } from './program.ts';
import { type Task, taskHandlers } from './task-handlers.ts';

const config = loadConfig(join(import.meta.dirname, 'tasks.yaml'), process.env);

await run({ submit, work });

async function submit(): Promise<void> {
  const publisher = new Publisher(config, {
    name: 'tasks: submit',
    // Whoever comes first declares it, this or the worker.
    onOpen: (model) => declareAll(model, config),
    onProblem: (problem) => console.error(problem),
  });
  const results = await publisher.publishAll(
    samples().map(({ kind, name, priority }) => ({
      exchange: 'tasks',
      routingKey: kind,
      content: { name, input: `the input of ${name}` } satisfies Task,
      priority,
    })),
  );
  tellFailures(results);
  console.log(`submitted: ${publisher.stats.confirmed}`);
  await publisher.close();
}

async function work(): Promise<void> {
  const consumers = new Consumers(config, {
    name: 'tasks: work',
    handlers: taskHandlers(play),
    onProblem: (problem) => console.error(problem),
  });
  await consumers.ready();
  console.log('working');
  await untilTold();
  await consumers.stop();
}

/** In place of the work. */
async function play({ name }: Task, { attempt }: Context): Promise<void> {
  if (name.endsWith('-broken')) throw new Error('it never works');
  console.log(`done: ${name} at attempt ${attempt}`);
}

function samples(): { kind: string; name: string; priority: number }[] {
  const names = {
    background: ['background-1', 'background-broken'],
    debate: ['debate-1', 'debate-2'],
    verification: ['verification-1', 'verification-broken'],
    notifications: ['notification-1', 'notification-2', 'notification-3'],
  };
  const plain = Object.entries(names).flatMap(([kind, own]) =>
    own.map((name) => ({ kind, name, priority: 0 })),
  );
  const priorities = [3, 0, 10, 7, 1, 9, 5, 2, 8, 4, 6];
  return [...plain, ...priorities.map((priority) => ({ kind: 'llm', name: `llm-${priority}`, priority }))];
}
