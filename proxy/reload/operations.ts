import { operation, type Operation } from '../admin/operation.ts';
import type { Reloader } from './reloader.ts';

const JSON_TYPE = 'application/json';

/** What the admin API has about the configuration. */
export function configurationOperations(reloader: Reloader): Operation[] {
  return [
    operation({
      method: 'GET',
      path: '/config/effective',
      summary: 'Every option as it is in effect, where it came from, and what waits for a restart.',
      parameters: [],
      content: { type: JSON_TYPE, schema: 'Configuration', description: 'the options, without secrets' },
      answer: () => reloader.document(),
    }),
    operation({
      method: 'POST',
      path: '/reload',
      summary: 'Reads the configuration again, and works with it where it is valid as a whole.',
      parameters: [],
      content: { type: JSON_TYPE, schema: 'Reload', description: 'it is in effect' },
      refusals: { 422: 'it is not valid, and the one before stays in effect: the answer says why' },
      answer: async () => {
        const document = await reloader.reload('admin API');
        if (document.result === 'refused') return { status: 422, body: `${document.problems.join('\n')}\n` };
        return { status: 200, body: `${JSON.stringify(document)}\n`, type: JSON_TYPE };
      },
    }),
  ];
}
