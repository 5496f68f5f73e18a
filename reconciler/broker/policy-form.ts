import { isObject } from '../../common/kube/json.ts';
import type { Json, JsonObject } from '../../common/kube/types.ts';
import { type Version, compareVersions } from '../../common/version.ts';
import type { Change, QueueForm } from './queue-form.ts';

/** The first version without mirrored queues. */
const WITHOUT_MIRRORS: Version = { major: 4, minor: 0, patch: undefined };

const LEADER_LOCATORS: Readonly<Record<string, string>> = {
  'client-local': 'client-local',
  'min-masters': 'balanced',
  random: 'balanced',
};

/**
 * What a policy or an operator policy sets, as RabbitMQ 4 takes it: without mirrored queues, and for quorum queues.
 * @param definition its keys and values
 */
export function formPolicy(
  definition: JsonObject,
  form: QueueForm,
  target: Version,
): { definition: JsonObject; changes: readonly Change[] } {
  const formed: JsonObject = { ...definition };
  const changes: Change[] = [];
  const set = (key: string, to: Json | undefined, why: string): void => {
    changes.push({ field: `definition.${key}`, from: formed[key], to, why });
    if (to === undefined) delete formed[key];
    else formed[key] = to;
  };
  if (compareVersions(target, WITHOUT_MIRRORS) >= 0) {
    for (const key of Object.keys(definition).filter((key) => key.startsWith('ha-'))) {
      set(key, undefined, 'RabbitMQ 4 has no mirrored queues');
    }
    const locator = definition['queue-master-locator'];
    if (locator !== undefined) {
      const why = 'queue-leader-locator is the setting for it: 4.3 refuses queue-master-locator';
      const leader = typeof locator === 'string' ? LEADER_LOCATORS[locator] : undefined;
      set('queue-master-locator', undefined, why);
      if (leader !== undefined && formed['queue-leader-locator'] === undefined) {
        set('queue-leader-locator', leader, why);
      }
    }
  }
  if (form === 'quorum' && definition['overflow'] === 'reject-publish-dlx') {
    const why = 'quorum queues take reject-publish-dlx for drop-head and would lose messages';
    set('overflow', 'reject-publish', why);
  }
  return { definition: formed, changes };
}

/** Where a policy's definition is: of operator policies, which are parameters, in the value. */
export function policyBody(object: JsonObject): JsonObject {
  return isObject(object['value']) ? object['value'] : object;
}
