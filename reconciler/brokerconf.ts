// The user's part of rabbitmq.conf (spec.rabbitmq.additionalConfig of a RabbitmqCluster) as a new version needs it.
import { isFourOrLater } from './versions.ts';

/** A key that RabbitMQ 4 does not boot with; each is tried on real brokers (test/broker/upgrade-config.test.ts). */
interface Refused {
  readonly key: RegExp;
  /** Only with this value. */
  readonly value?: RegExp;
  /** One clause for people: what there is in its place. */
  readonly instead: string;
}

const REFUSED: readonly Refused[] = [
  {
    key: /^amqp1_0\.(?:default_user|default_vhost|protocol_strict_mode)$/,
    instead: 'AMQP 1.0 is no plugin any more',
  },
  {
    key: /^cluster_formation\.randomized_startup_delay_range\.(?:min|max)$/,
    instead: 'nodes find each other without a delay',
  },
  { key: /^management\.(?:enable_uaa|uaa_client_id|uaa_location)$/, instead: 'there is management.oauth_*' },
  {
    key: /^mqtt\.default_(?:user|pass)$/,
    instead: 'there is anonymous_login_user and anonymous_login_pass',
  },
  {
    key: /^mqtt\.subscription_ttl$/,
    instead: 'there is mqtt.max_session_expiry_interval_seconds, which is in seconds',
  },
  { key: /^classic_queue\.default_version$/, value: /^1$/, instead: 'classic queues have version 2' },
  {
    key: /^default_policies\.operator\.[^.]+\.classic_queues\.ha_(?:mode|params|sync_mode)$/,
    instead: 'there are no mirrored queues',
  },
];

/** Whom an operator policy applies to: without any limit in it, RabbitMQ does not start with the policy either. */
const POLICY_FRAME = /^default_policies\.operator\.([^.]+)\.(?:vhost_pattern|queue_pattern|apply_to)$/;
const POLICY = /^default_policies\.operator\.([^.]+)\./;

/** Settings that a cluster made by an upgrade gets unless its user sets them. */
const RELAXED = 'quorum_queue.property_equivalence.relaxed_checks_on_redeclaration';
const RECONCILED = 'quorum_queue.continuous_membership_reconciliation.enabled';

export interface ConfigNeeds {
  /** The version that reads it. */
  readonly version: string;
  /** Whether clients of 3.x come: those that do not pass through the proxy redeclare queues in their old form. */
  readonly isProxied: boolean;
  /** Whether queues have members on several nodes: those declared while one is missing get it later. */
  readonly isReplicated: boolean;
}

/**
 * The text without what the version does not boot with, and with the settings that the upgrade wants behind it. Every other
 * line stays as it is. `notes` are sentences for people about lines that went.
 */
export function adaptConfig(text: string, needs: ConfigNeeds): { text: string; notes: string[] } {
  if (!isFourOrLater(needs.version)) return { text, notes: [] };
  const { text: kept, notes } = withoutRefused(text, needs.version);
  const wanted = [...(needs.isProxied ? [RELAXED] : []), ...(needs.isReplicated ? [RECONCILED] : [])];
  return { text: withSettings(kept, wanted), notes };
}

/**
 * The text that a cluster has to have whose user now says `text`: the settings of the upgrade stay that `before` has.
 */
export function followConfig(text: string, before: string, version: string): string {
  if (!isFourOrLater(version)) return text;
  const has = keysOf(before);
  return withSettings(
    withoutRefused(text, version).text,
    [RELAXED, RECONCILED].filter((key) => has.has(key)),
  );
}

function withoutRefused(text: string, version: string): { text: string; notes: string[] } {
  const lines = text.split('\n');
  const refused = lines.map(refusalOf);
  const policies = emptiedPolicies(lines, refused);
  const reasons = lines.map((line, index) => {
    const policy = POLICY_FRAME.exec(settingOf(line)?.key ?? '')?.[1];
    const isEmptied = policy !== undefined && policies.has(policy);
    return refused[index] ?? (isEmptied ? 'the policy has nothing else in it' : undefined);
  });
  const notes = lines.flatMap((line, index) => {
    const reason = reasons[index];
    const told = `was taken out of spec.rabbitmq.additionalConfig, for RabbitMQ ${version} does not start with it`;
    return reason === undefined ? [] : [`${settingOf(line)?.key} ${told}: ${reason}`];
  });
  return { text: lines.filter((_line, index) => reasons[index] === undefined).join('\n'), notes };
}

function refusalOf(line: string): string | undefined {
  const setting = settingOf(line);
  if (setting === undefined) return undefined;
  const found = REFUSED.find(
    ({ key, value }) => key.test(setting.key) && (value === undefined || value.test(setting.value)),
  );
  return found?.instead;
}

/** Operator policies of which nothing but the frame is left. */
function emptiedPolicies(lines: string[], refused: (string | undefined)[]): Set<string> {
  const lost = new Set<string>();
  const kept = new Set<string>();
  for (const [index, line] of lines.entries()) {
    const key = settingOf(line)?.key ?? '';
    const policy = POLICY.exec(key)?.[1];
    if (policy === undefined) continue;
    if (refused[index] !== undefined) lost.add(policy);
    else if (!POLICY_FRAME.test(key)) kept.add(policy);
  }
  return new Set([...lost].filter((policy) => !kept.has(policy)));
}

function withSettings(text: string, keys: readonly string[]): string {
  const has = keysOf(text);
  const added = keys.filter((key) => !has.has(key)).map((key) => `${key} = true\n`);
  if (added.length === 0) return text;
  return `${text}${text === '' || text.endsWith('\n') ? '' : '\n'}${added.join('')}`;
}

function keysOf(text: string): Set<string> {
  return new Set(text.split('\n').flatMap((line) => settingOf(line)?.key ?? []));
}

/** A line as the cluster operator reads it: `key = value` or `key: value`, with an optional comment behind it. */
function settingOf(line: string): { key: string; value: string } | undefined {
  const match = /^\s*([^#;\s=:[][^=:]*?)\s*[=:]\s*(.*)$/.exec(line);
  if (match === null) return undefined;
  return { key: match[1]!, value: match[2]!.replace(/(?:^|\s)[#;].*$/, '').trim() };
}
