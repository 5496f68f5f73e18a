import { type Schema, schemaOf } from './keys.ts';
import { FLAT_KEYS, rootTable } from './table.ts';

/** JSON Schema of the file, for editors; the loader checks more than it can say. */
export function messagingSchema(): Schema {
  const { properties, ...messaging } = schemaOf(rootTable);
  const flat = Object.entries(FLAT_KEYS).map(([name, { section, key }]) => {
    const sections = properties as Record<string, { properties: Record<string, Schema> }>;
    const description = `The same as ${key} of ${section}.`;
    return [name, { ...sections[section]!.properties[key], description }];
  });
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'Messaging configuration of Quorumbridge',
    anyOf: [
      {
        type: 'object',
        required: ['rabbitmq'],
        properties: { rabbitmq: { $ref: '#/$defs/messaging' } },
      },
      { $ref: '#/$defs/messaging' },
    ],
    $defs: {
      messaging: { ...messaging, properties: { ...(properties as object), ...Object.fromEntries(flat) } },
    },
  };
}
