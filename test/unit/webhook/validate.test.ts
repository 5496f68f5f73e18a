import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ANNOTATION } from '../../../common/contract.ts';
import type { Json, KubeObject } from '../../../common/kube/types.ts';
import { type Rule, validate } from '../../../webhook/validate.ts';
import { compareVersions, parseVersion } from '../../../common/version.ts';

interface Parts {
  name?: string;
  target?: string;
  annotations?: Record<string, string>;
  metadata?: Record<string, Json>;
  spec?: Record<string, Json>;
  status?: Record<string, Json>;
}

/** A RabbitMq; `target` is the annotation. */
function rabbitMq({
  name = 'rabbitmq',
  target,
  annotations = {},
  metadata = {},
  spec = {},
  status,
}: Parts): KubeObject {
  return {
    apiVersion: 'rabbitmq.openstack.org/v1beta1',
    kind: 'RabbitMq',
    metadata: {
      name,
      namespace: 'openstack',
      annotations: { ...(target !== undefined && { [ANNOTATION.targetVersion]: target }), ...annotations },
      ...metadata,
    },
    spec,
    ...(status !== undefined && { status }),
  };
}

const running = (currentVersion: string, more: Record<string, Json> = {}) => ({
  status: { currentVersion, ...more },
});
const UPGRADING = { currentVersion: '3.9', upgradePhase: 'WaitingForPods' };
/** Nothing is deleted yet: the reconciler calls it off. */
const SAVING = { currentVersion: '3.9', upgradePhase: 'DeletingResources' };
const upgrading = { ...SAVING, upgrade: { reason: 'VersionUpgrade' } };
const migrating = { ...SAVING, upgrade: { reason: 'QueueTypeMigration' } };

type Row = [
  what: string,
  old: Parts | undefined,
  object: Parts,
  rules: Rule[],
  message?: RegExp | undefined,
  warning?: RegExp,
];

/** Every rule from both sides: what it refuses, what just passes, and what was wrong before. */
const TABLE: Row[] = [
  ['a new object that says nothing', undefined, {}, []],
  ['an object that stays as it is', {}, {}, []],

  ['a name of 45 characters', undefined, { name: 'a'.repeat(45) }, []],
  ['a name of 46 characters', undefined, { name: 'a'.repeat(46) }, ['name'], /46 characters.*at most 45/],
  ['a name with a dot', undefined, { name: 'a.b' }, ['name'], /metadata\.name: "a\.b" is no DNS label/],
  ['a name in upper case', undefined, { name: 'Rabbit' }, ['name'], /lower case/],
  ['a name that ends with a dash', undefined, { name: 'a-' }, ['name'], /both ends/],
  ['an old object with a long name', { name: 'a'.repeat(60) }, { name: 'a'.repeat(60) }, []],
  ['a name that is still to be made', undefined, { metadata: { name: null, generateName: 'A.' } }, []],

  ['targets of two and three numbers', undefined, { target: '4.2', spec: { targetVersion: '4.2.1' } }, []],
  ...['3', 'v3.9', '3.9.', '4.2.1.0', '4.x', '4,2', ' 4.2', '4.2\n', ''].map((text): Row => [
    `a target ${JSON.stringify(text)}`,
    undefined,
    { target: text },
    ['target-version'],
    /target-version\]: .*is no version: write two or three numbers/,
  ]),
  [
    'a wrong targetVersion in the spec',
    {},
    { spec: { targetVersion: 'latest' } },
    ['target-version'],
    /^spec\.targetVersion: "latest"/,
  ],
  ['an empty targetVersion', {}, { spec: { targetVersion: '' } }, []],
  [
    'a wrong target that was there before',
    { target: 'x' },
    { target: 'x', spec: { replicas: 3 } },
    [],
    undefined,
    /target-version\]: "x" is no version/,
  ],

  ['an upgrade', running('3.9'), { target: '4.2' }, []],
  ['the version that runs', running('4.2.1'), { target: '4.2.1' }, []],
  ['the version that runs, without its patch', running('4.2.1'), { target: '4.2' }, []],
  [
    'an older minor',
    running('4.2'),
    { target: '4.1' },
    ['downgrade'],
    /"4\.1" is older than the running version, 4\.2.*name 4\.2 or a later/,
  ],
  ['an older patch', running('4.2.2'), { target: '4.2.1' }, ['downgrade']],
  [
    'an older major',
    running('4.2'),
    { spec: { targetVersion: '3.13' } },
    ['downgrade'],
    /^spec\.targetVersion/,
  ],
  ['3.10 after 3.9, by number', running('3.9'), { target: '3.10' }, []],
  ['3.9 after 3.10, by number', running('3.10'), { target: '3.9' }, ['downgrade']],
  ['10.0 after 4.2, by number', running('4.2'), { target: '10.0' }, []],
  [
    'an older target while no version is known',
    { target: '4.2' },
    { target: '4.1' },
    ['downgrade'],
    /the target so far, 4\.2/,
  ],
  ['a newer target while no version is known', { target: '4.1' }, { target: '4.2' }, []],
  ['a first target while no version is known', {}, { target: '3.9' }, []],
  ['an empty running version', { status: { currentVersion: '' } }, { target: '3.9' }, []],
  ['a running version that is none', running('unknown'), { target: '3.9' }, []],
  ['an old target below the running version', { target: '3.9', ...running('4.2') }, { target: '3.9' }, []],
  [
    'an annotation taken away above an older spec',
    { target: '4.2', spec: { targetVersion: '3.9' }, ...running('4.2') },
    { spec: { targetVersion: '3.9' } },
    ['downgrade'],
  ],
  ['a target taken away', { target: '4.2', ...running('4.2') }, {}, []],
  [
    'a status of the writer of the spec',
    running('3.9'),
    { target: '4.2', status: { currentVersion: '5.0' } },
    [],
  ],

  ['more replicas', { spec: { replicas: 1 } }, { spec: { replicas: 3 } }, []],
  ['the same replicas', { spec: { replicas: 3 } }, { spec: { replicas: 3 } }, []],
  [
    'fewer replicas',
    { spec: { replicas: 3 } },
    { spec: { replicas: 1 } },
    ['scale-down'],
    /^spec\.replicas: 1 is less than 3.*keep at least 3$/,
  ],
  ['replicas left out, which is 1', { spec: { replicas: 3 } }, {}, ['scale-down'], /1 is less than 3/],
  ['one replica written out', {}, { spec: { replicas: 1 } }, []],
  ['no replicas', {}, { spec: { replicas: 0 } }, ['scale-down']],
  ['replicas that are no number', { spec: { replicas: 3 } }, { spec: { replicas: 'x' } }, []],
  ['any replicas when new', undefined, { spec: { replicas: 0 } }, []],

  ...['Quorum', 'Mirrored', 'None', ''].map((queueType): Row => [
    `queue type "${queueType}"`,
    undefined,
    { spec: { queueType } },
    [],
  ]),
  [
    'an unknown queue type',
    undefined,
    { spec: { queueType: 'quorum' } },
    ['queue-type'],
    /^spec\.queueType: "quorum" is no queue type: write Quorum, Mirrored, None$/,
  ],
  [
    'an unknown queue type that was there before',
    { spec: { queueType: 'x' } },
    { spec: { queueType: 'x' } },
    [],
    undefined,
    /"x" is no queue type/,
  ],
  [
    'a new object, Mirrored with 4.x',
    undefined,
    { target: '4.0', spec: { queueType: 'Mirrored' } },
    ['queue-type-4'],
    /^spec\.queueType: "Mirrored" is not possible, for "4\.0" is the target.*write "Quorum"$/,
  ],
  ['None with 5.x', undefined, { target: '5.0', spec: { queueType: 'None' } }, ['queue-type-4']],
  ['Mirrored with 3.13', undefined, { target: '3.13', spec: { queueType: 'Mirrored' } }, []],
  ['Quorum with 4.x', undefined, { target: '4.2', spec: { queueType: 'Quorum' } }, []],
  [
    'a 4.x target for a Mirrored one',
    { spec: { queueType: 'Mirrored' }, ...running('3.9') },
    { target: '4.2', spec: { queueType: 'Mirrored' } },
    ['queue-type-4'],
  ],
  [
    'Mirrored with 4.x that was there before',
    { target: '4.2', spec: { queueType: 'Mirrored' } },
    { target: '4.2', spec: { queueType: 'Mirrored', replicas: 1 } },
    [],
    undefined,
    /"Mirrored" is not possible/,
  ],
  [
    'Mirrored to Quorum on 3.x',
    { spec: { queueType: 'Mirrored' }, ...running('3.9') },
    { spec: { queueType: 'Quorum' } },
    [],
    undefined,
    /^spec\.queueType: .*messages are lost/,
  ],
  [
    'Mirrored to Quorum together with 4.x',
    { spec: { queueType: 'Mirrored' }, ...running('3.9') },
    { target: '4.2', spec: { queueType: 'Quorum' } },
    [],
  ],

  [
    'a topology of the own namespace',
    undefined,
    { spec: { topologyRef: { name: 't', namespace: 'openstack' } } },
    [],
  ],
  ['a topology without a namespace', undefined, { spec: { topologyRef: { name: 't' } } }, []],
  [
    'a topology of another namespace',
    undefined,
    { spec: { topologyRef: { name: 't', namespace: 'other' } } },
    ['topology-namespace'],
    /^spec\.topologyRef\.namespace: "other".*write "openstack", or leave it out$/,
  ],

  [
    'another target during an upgrade',
    { target: '4.0', status: UPGRADING },
    { target: '4.2' },
    ['phase-under-way'],
    /"4\.2" can not be set, from "4\.0", while an upgrade is under way \(status\.upgradePhase is "WaitingForPods"\): wait/,
  ],
  [
    'a target taken away during an upgrade',
    { target: '4.0', status: UPGRADING },
    {},
    ['phase-under-way'],
    /"4\.0" can not be taken away/,
  ],
  [
    'a first target during a migration',
    { status: UPGRADING },
    { target: '4.0' },
    ['phase-under-way'],
    /"4\.0" can not be set while/,
  ],
  [
    'the same target moved to the spec',
    { target: '4.0', status: UPGRADING },
    { spec: { targetVersion: '4.0' } },
    [],
  ],
  [
    'a target taken away as the last step',
    { target: '4.0', status: { currentVersion: '4.0', upgradePhase: 'WaitingForCluster' } },
    {},
    [],
  ],
  [
    'anything else during an upgrade',
    { target: '4.0', status: UPGRADING },
    { target: '4.0', annotations: { a: 'b' } },
    [],
  ],
  [
    'Quorum taken back during an upgrade',
    { spec: { queueType: 'Quorum' }, status: UPGRADING },
    { spec: { queueType: 'Mirrored' } },
    ['phase-under-way'],
    /^spec\.queueType: "Quorum" can not be changed/,
  ],
  ['a target taken away before anything is deleted', { target: '4.0', status: upgrading }, {}, []],
  [
    'the target set to what runs before anything is deleted',
    { target: '4.0', status: upgrading },
    { spec: { targetVersion: '3.9' } },
    [],
  ],
  [
    'another target before anything is deleted',
    { target: '4.0', status: upgrading },
    { target: '4.2' },
    ['phase-under-way'],
    /"4\.2" can not be set, from "4\.0"/,
  ],
  [
    'Quorum taken back from an upgrade before anything is deleted',
    { spec: { queueType: 'Quorum' }, status: upgrading },
    { spec: { queueType: 'Mirrored' } },
    ['phase-under-way'],
  ],
  [
    'Quorum taken back from a migration before anything is deleted',
    { spec: { queueType: 'Quorum' }, status: migrating },
    { spec: { queueType: 'Mirrored' } },
    [],
  ],
  [
    'Quorum made None in a migration before anything is deleted',
    { spec: { queueType: 'Quorum' }, status: migrating },
    { spec: { queueType: 'None' } },
    ['phase-under-way'],
  ],
  [
    'a target taken away where another controller keeps the phase',
    { target: '4.0', status: SAVING },
    {},
    ['phase-under-way'],
  ],
  ['Quorum forced during an upgrade', { status: UPGRADING }, { spec: { queueType: 'Quorum' } }, []],
  ['an empty phase', { target: '4.0', ...running('3.9', { upgradePhase: '' }) }, { target: '4.2' }, []],
  [
    'clients-reconfigured during an upgrade',
    { status: UPGRADING },
    { annotations: { [ANNOTATION.clientsReconfigured]: 'true' } },
    [],
    undefined,
    /clients-reconfigured\]: the clients lose their proxy while an upgrade is under way/,
  ],

  [
    'a switch that is neither true nor false',
    undefined,
    { annotations: { [ANNOTATION.enableProxy]: 'yes' } },
    [],
    undefined,
    /enable-proxy\]: "yes" is ignored: write "true" or "false"/,
  ],
  [
    'switches that are',
    undefined,
    { annotations: { [ANNOTATION.enableProxy]: 'true', [ANNOTATION.inject]: 'false' } },
    [],
  ],
  [
    'everything at once',
    { spec: { replicas: 3, queueType: 'Quorum' }, target: '4.0', status: UPGRADING },
    { spec: { replicas: 1, queueType: 'x' }, target: '3.8' },
    ['downgrade', 'scale-down', 'queue-type', 'phase-under-way', 'phase-under-way'],
  ],
  [
    'an object that is being deleted, whatever is wrong with it',
    { spec: { replicas: 3 }, status: UPGRADING },
    {
      name: 'A.B',
      target: 'x',
      spec: { queueType: 'y' },
      metadata: { deletionTimestamp: '2026-01-01T00:00:00Z' },
    },
    [],
  ],
];

describe('the rules for RabbitMqs', () => {
  it.each(TABLE)('judge %s', (_what, old, object, rules, message, warning) => {
    const found = validate(old && rabbitMq(old), rabbitMq(object));
    expect(found.errors.map(({ rule }) => rule)).toEqual(rules);
    expect(found.errors[0]?.message ?? '').toMatch(message ?? /^/);
    expect(found.warnings).toHaveLength(warning === undefined ? 0 : 1);
    expect(found.warnings[0] ?? '').toMatch(warning ?? /^$/);
  });

  it('repeat no more of a value than helps', () => {
    const { errors } = validate(
      undefined,
      rabbitMq({ target: 'x'.repeat(10_000), spec: { queueType: 'y'.repeat(10_000) } }),
    );
    expect(errors.map(({ message }) => message.length < 300)).toEqual([true, true]);
  });

  it('never throw, whatever the objects hold, and allow every write that changes nothing', () => {
    const parts = fc.record({
      metadata: fc.dictionary(fc.constantFrom('name', 'annotations', 'namespace'), fc.jsonValue()),
    });
    fc.assert(
      fc.property(parts, fc.jsonValue(), fc.jsonValue(), ({ metadata }, spec, status) => {
        const object = { ...rabbitMq({}), metadata, spec, status } as unknown as KubeObject;
        expect(() => validate(undefined, object)).not.toThrow();
        expect(validate(object, object).errors).toEqual([]);
      }),
    );
  });
});

describe('versions', () => {
  it('are ordered by number, and a missing patch is any', () => {
    const order = (a: string, b: string): number =>
      Math.sign(compareVersions(parseVersion(a)!, parseVersion(b)!));
    expect([
      order('3.9', '3.10'),
      order('4.0', '3.13'),
      order('4.2', '4.2.7'),
      order('4.2.10', '4.2.9'),
    ]).toEqual([-1, 1, 0, 1]);
    expect(['', '4', 'v4.2', '4.2.', '4.2.1.0', '4.2-rc1', '1234567890.1'].map(parseVersion)).toEqual(
      Array(7).fill(undefined),
    );
    expect(parseVersion(undefined)).toBeUndefined();
  });
});
