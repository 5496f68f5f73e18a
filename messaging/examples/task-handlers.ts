// What is done with a task, by its queue.
import { type Context, type Handler, type Schema, handler } from '../index.ts';
import { text } from './fields.ts';

export interface Task {
  readonly name: string;
  readonly input: string;
}

const schema: Schema<Task> = {
  parse: (value) => ({ name: text(value, 'name'), input: text(value, 'input') }),
};

/** @param work does a task; what it throws says that it failed */
export function taskHandlers(
  work: (task: Task, context: Context) => Promise<void>,
): Readonly<Record<string, Handler>> {
  return {
    'tasks.background': handler({
      schema,
      handle: async (task, context) => {
        try {
          await work(task, context);
        } catch (error) {
          console.log(`failed: ${task.name} at attempt ${context.attempt}: ${String(error)}`);
          context.retryLater();
        }
      },
    }),
    // One after the other, so that none is begun while a more urgent one waits.
    'tasks.llm': handler({ schema, concurrency: 1, handle: work }),
    'tasks.debate': handler({ schema, concurrency: 2, handle: work }),
    // What is refuted is so the next time, too: it goes to the dead letters with the reason.
    'tasks.verification': handler({
      schema,
      handle: async (task, context) => {
        try {
          await work(task, context);
        } catch (error) {
          context.reject(String(error));
        }
      },
    }),
    // What this throws brings the message back, up to its delivery limit.
    'tasks.notifications': handler({ schema, handle: work }),
  };
}
