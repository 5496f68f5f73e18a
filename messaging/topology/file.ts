// Writes what was exported as a file that `loadConfig` reads.
import { stringify } from 'yaml';
import type { ArgumentValue } from '../config/kinds.ts';
import type { ConnectionConfig } from '../config/types.ts';
import { describeBroker } from '../connection.ts';
import type { FileMap } from './describe.ts';
import type { Exported } from './export.ts';

/** The content of a file, without the password: who uses it gives it by the environment. */
export function fileOf(
  { exchanges }: Exported,
  connection: ConnectionConfig,
): { readonly rabbitmq: FileMap } {
  const { host, port, username, vhost, tls } = connection;
  const encryption = tls && {
    enabled: true,
    ...(tls.certFile === undefined ? {} : { cert_file: tls.certFile }),
    ...(tls.keyFile === undefined ? {} : { key_file: tls.keyFile }),
    ...(tls.caFile === undefined ? {} : { ca_file: tls.caFile }),
    ...(tls.serverName === undefined ? {} : { server_name: tls.serverName }),
    ...(tls.skipVerify ? { skip_verify: true } : {}),
  };
  const content = {
    host,
    port,
    username,
    vhost,
    ...(encryption === undefined ? {} : { tls: encryption }),
    exchanges,
  };
  return { rabbitmq: escaped(content) as FileMap };
}

/** As YAML, with what could not be described in comments. */
export function yamlOf(exported: Exported, connection: ConnectionConfig): string {
  const comments = [
    `${describeBroker(connection)}. The password is not here: set RABBITMQ_PASSWORD.`,
    ...exported.leftOut.map((what) => `Left out: ${what}.`),
    'No broker knows prefetch, nor the max_priority of quorum queues: say them where a queue has its own.',
    ...exported.countedByConsumers.map(
      (queue) => `Nor the delivery_limit of a classic queue: say it for ${JSON.stringify(queue)}.`,
    ),
  ];
  const head = comments.map((line) => `# ${line.replaceAll(/\s/g, ' ')}\n`).join('');
  return head + stringify(fileOf(exported, connection), { lineWidth: 0, aliasDuplicateObjects: false });
}

/** Names may hold what the loader would take for a variable. */
function escaped(value: ArgumentValue): ArgumentValue {
  if (typeof value === 'string') return value.replaceAll('${', () => '$${');
  if (Array.isArray(value)) return value.map(escaped);
  if (typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, escaped(inner)]));
}
