// A service that hears of its users: one handler per queue, each with a schema.
//   node messaging/examples/events.ts publish   publishes events, one of them invalid
//   node messaging/examples/events.ts consume   handles them until it is told to end
//   node messaging/examples/events.ts           both
import { join } from 'node:path';
import { Consumers, Publisher, declareAll, loadConfig } from '../index.ts';
import { run, tellFailures, untilTold } from './program.ts';
import { onUserCreated } from './user-created.ts';
import { onPasswordUpdated } from './user-password-updated.ts';

const config = loadConfig(join(import.meta.dirname, 'events.yaml'), process.env);

await run({ publish, consume });

async function publish(): Promise<void> {
  const publisher = new Publisher(config, {
    name: 'events: publish',
    onOpen: (model) => declareAll(model, config),
    onProblem: (problem) => console.error(problem),
  });
  const events: [string, object][] = [
    ['user.created', { user_id: 'ada', email: 'ada@example.org' }],
    ['user.created', { user_id: 'nobody' }],
    ['password.changed', { user_id: 'ada', changed_at: '2026-01-31T12:00:00Z' }],
  ];
  const results = await publisher.publishAll(
    events.map(([routingKey, content]) => ({ exchange: 'auth', routingKey, content })),
  );
  tellFailures(results);
  console.log(`published: ${publisher.stats.confirmed}`);
  await publisher.close();
}

async function consume(): Promise<void> {
  const consumers = new Consumers(config, {
    name: 'events: consume',
    handlers: {
      'user.password.updated': onPasswordUpdated(new Map()),
      'user.created': onUserCreated(new Map()),
    },
    onProblem: (problem) => console.error(problem),
  });
  await consumers.ready();
  console.log('consuming');
  await untilTold();
  await consumers.stop();
}
