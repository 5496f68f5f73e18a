// The drill's steps: a cluster of RabbitMQ 3.10 under traffic, the upgrade by annotation, the client's own change and the
// end of the proxy; then what was seen.
import { styleText } from 'node:util';
import { ANNOTATION, PROXY_CONTAINER, UPGRADE_ANNOTATION, WIPE_CONTAINER } from '../../../common/contract.ts';
import { eventually } from '../../support/kube-api.ts';
import type { KubeObject } from '../../support/kube-api.ts';
import type { PodObject } from '../../support/pods/types.ts';
import type { Narrator } from '../narrator.ts';
import { BrokerApi, compare } from './broker-api.ts';
import type { Definitions } from './broker-api.ts';
import { ACCOUNT, ARCHIVE, stock } from './stock.ts';
import { startSurroundings } from './surroundings.ts';
import type { Surroundings } from './surroundings.ts';
import { Timeline } from './timeline.ts';
import type { RabbitMq } from './timeline.ts';
import { Traffic, longestGap } from './traffic.ts';

const NAMESPACE = 'openstack';
const NAME = 'rabbitmq';
const UPGRADE_TIMEOUT_MS = 15 * 60_000;
const READY_TIMEOUT_MS = 240_000;
/** So long the client runs before and after. */
const STEADY_MS = 5000;

export interface DrillSettings {
  from: string;
  to: string;
  replicas: number;
  /** Storage outlives its claim, and the next claim of that name has it: it is for the upgrade to wipe it. */
  retain: boolean;
  verbose: boolean;
}

/** A step that failed. */
export class DrillError extends Error {}

/** Something that was seen; `holds` where it had to be so. */
export interface DrillRow {
  what: string;
  seen: string;
  holds?: boolean;
}

export class Drill {
  readonly #settings: DrillSettings;
  readonly #narrator: Narrator;
  readonly #rabbitMq: RabbitMq;
  readonly #rabbitmqCluster: KubeObject;
  readonly rows: DrillRow[] = [];
  #surroundings: Surroundings | undefined;
  #timeline: Timeline | undefined;
  #traffic: Traffic[] = [];
  #before: Definitions = {};

  constructor(settings: DrillSettings, narrator: Narrator) {
    this.#settings = settings;
    this.#narrator = narrator;
    const metadata = { namespace: NAMESPACE, name: NAME };
    const { from, replicas } = settings;
    this.#rabbitMq = {
      apiVersion: 'rabbitmq.openstack.org/v1beta1',
      kind: 'RabbitMq',
      metadata: { ...metadata },
      spec: { replicas, targetVersion: from, queueType: replicas > 1 ? 'Mirrored' : 'None' },
    };
    this.#rabbitmqCluster = {
      apiVersion: 'rabbitmq.com/v1beta1',
      kind: 'RabbitmqCluster',
      metadata: { ...metadata },
      // Without the operator's wait for DNS, and with a grace period of this world.
      spec: {
        replicas,
        image: `rabbitmq:${from}-management`,
        delayStartSeconds: 1,
        terminationGracePeriodSeconds: 60,
      },
    };
  }

  /** All steps; rejects with a DrillError at the first that fails. Call `end` in any case. */
  async run(): Promise<void> {
    const { from, to, replicas } = this.#settings;
    await this.#step('1', 'The surroundings', () => this.#start());
    await this.#step('2', `RabbitMQ ${from} with ${replicas} node${replicas > 1 ? 's' : ''}`, () =>
      this.#makeCluster(),
    );
    await this.#step('3', 'Definitions, messages, and a legacy client', () => this.#fill());
    await this.#step('4', `target-version: "${to}"`, () => this.#upgrade());
    await this.#step('5', 'The same client, through the proxy', () => this.#afterwards());
    await this.#step('6', 'The client declares quorum queues itself: clients-reconfigured', () =>
      this.#reconfigure(),
    );
  }

  /** Prints what was seen; whether all of it held. */
  tell(): boolean {
    const width = Math.max(...this.rows.map(({ what }) => what.length));
    process.stdout.write(`\n${styleText('bold', 'What was seen')}\n`);
    for (const { what, seen, holds } of this.rows) {
      const mark =
        holds === undefined ? '    ' : holds ? styleText('green', 'ok  ') : styleText('red', 'NOT ');
      process.stdout.write(`  ${mark}${what.padEnd(width)}  ${seen}\n`);
    }
    return this.rows.every(({ holds }) => holds !== false);
  }

  /** Stops everything; `run` ends by that too. */
  async end(): Promise<void> {
    await this.#timeline?.stop();
    await Promise.all(this.#traffic.map((traffic) => traffic.stop()));
    await this.#surroundings?.[Symbol.asyncDispose]();
  }

  async #step(id: string, title: string, work: () => Promise<void>): Promise<void> {
    this.#narrator.step(id, title);
    const began = Date.now();
    try {
      await work();
    } catch (error) {
      const why = [(error as Error).message, ...(this.#surroundings?.complaints() ?? [])].join('\n');
      throw new DrillError(`step ${id} (${title}) failed: ${why}`, { cause: error });
    }
    this.#narrator.say(`(${seconds(Date.now() - began)})`);
  }

  async #start(): Promise<void> {
    const { retain } = this.#settings;
    const progress = (line: string) => this.#narrator.progress(line);
    const pod = (line: string) => {
      if (this.#settings.verbose || /ended with [^0]|failed|killed/.test(line)) progress(line);
    };
    this.#surroundings = await startSurroundings(NAMESPACE, retain ? 'Retain' : 'Delete', { progress, pod });
  }

  async #makeCluster(): Promise<void> {
    const { api } = this.#world.cluster;
    await api.create(this.#rabbitmqCluster);
    await this.#allReady();
    await api.create(this.#rabbitMq);
    await eventually('status.currentVersion', async () => {
      const { status } = await api.read<RabbitMq>(this.#rabbitMq);
      return status?.currentVersion !== undefined;
    });
    this.#timeline = new Timeline(this.#world.cluster, this.#rabbitMq, (line) =>
      this.#narrator.progress(line),
    );
    this.#timeline.start();
  }

  async #fill(): Promise<void> {
    const api = await this.#broker();
    this.#narrator.say(`RabbitMQ ${await api.version()} answers`);
    await stock(api);
    await this.#flow('legacy');
    await pause(STEADY_MS);
    this.#before = await api.definitions();
  }

  async #upgrade(): Promise<void> {
    const { api } = this.#world.cluster;
    const { to } = this.#settings;
    const annotate = (annotations: Record<string, string>) =>
      api.patch(this.#rabbitMq, { metadata: { annotations } });
    await annotate({ [ANNOTATION.targetVersion]: to });
    const refused = await eventually('the refusal to lose messages', async () => {
      const { status } = await api.read<RabbitMq>(this.#rabbitMq);
      return status?.conditions?.find(({ message = '' }) =>
        message.includes(UPGRADE_ANNOTATION.acceptDataLoss),
      );
    });
    this.rows.push({
      what: 'refused before messages were given up',
      seen: `${refused.type}=${refused.status} ${refused.reason}`,
      holds: (refused.message ?? '').includes(ARCHIVE.queue) && this.#timeline!.phases.length === 0,
    });
    await annotate({ [UPGRADE_ANNOTATION.acceptDataLoss]: 'true' });
    await eventually(
      'the end of the upgrade',
      async () => {
        const { status, metadata } = await api.read<RabbitMq>(this.#rabbitMq);
        const isDone =
          status?.upgradePhase === '' && metadata.annotations?.[ANNOTATION.targetVersion] === undefined;
        return isDone && status.currentVersion?.startsWith(to);
      },
      UPGRADE_TIMEOUT_MS,
    );
    const { phases } = this.#timeline!;
    await eventually('the timeline', async () => phases.at(-1)?.phase === '');
    for (const [at, { phase, at: began }] of phases.entries()) {
      const until = phases[at + 1]?.at;
      if (until !== undefined) this.rows.push({ what: `phase ${phase}`, seen: seconds(until - began) });
    }
  }

  async #afterwards(): Promise<void> {
    const [traffic] = this.#traffic as [Traffic];
    await eventually('the client’s connections', async () => traffic.flows, 60_000);
    await pause(STEADY_MS);
    await traffic.stop();
    this.rows.push({ what: 'the proxy after the upgrade', ...(await this.#proxies(true)) });
    if (this.#settings.retain)
      this.rows.push({ what: 'old storage, kept under new claims', ...this.#wiped() });
    const api = await this.#broker();
    this.rows.push({ what: 'RabbitMQ now', seen: await api.version() });
    this.#account(traffic);
    const { messages = -1 } = await eventually('the count of a queue that was wiped', async () => {
      const queue = await api.call<{ messages?: number }>('GET', `queues/${ACCOUNT.vhost}/${ARCHIVE.queue}`);
      return queue.messages !== undefined && queue;
    });
    this.rows.push({
      what: 'lost with a queue that nobody reads',
      seen: `${ARCHIVE.persistent} persistent, ${ARCHIVE.transient} transient in ${ARCHIVE.queue}, as was accepted`,
      holds: messages === 0,
    });
    this.#compare(await api.definitions());
  }

  async #reconfigure(): Promise<void> {
    const { api } = this.#world.cluster;
    const traffic = await this.#flow('quorum');
    await pause(STEADY_MS);
    await api.patch(this.#rabbitMq, {
      metadata: { annotations: { [ANNOTATION.clientsReconfigured]: 'true' } },
    });
    await eventually(
      'pods without the proxy',
      async () => (await this.#proxies(false)).holds && (await this.#isReady()),
      READY_TIMEOUT_MS,
    );
    await eventually('the client’s connections', async () => traffic.flows, 60_000);
    await pause(STEADY_MS);
    await traffic.stop();
    this.rows.push({ what: 'the proxy after clients-reconfigured', ...(await this.#proxies(false)) });
    const fates = [...traffic.fates.values()];
    const lost = fates.filter(
      ({ confirmedAt, receivedAt }) => confirmedAt !== undefined && receivedAt === undefined,
    );
    const gap = longestGap(fates.flatMap(({ receivedAt = [] }) => receivedAt));
    this.rows.push({
      what: 'the reconfigured client',
      seen: `${fates.length} messages, ${lost.length} lost after confirm, longest silence ${seconds(gap.milliseconds)}`,
      holds: lost.length === 0 && fates.length > 0,
    });
  }

  /** What the init containers that wipe said, the first time that they ran. */
  #wiped(): { seen: string; holds: boolean } {
    const nodes = Array.from({ length: this.#settings.replicas }, (_, number) => `${NAME}-server-${number}`);
    const logs = nodes.map((node) => this.#world.pods.log(NAMESPACE, node, WIPE_CONTAINER).split('\n'));
    return { seen: logs[0]!.slice(0, 2).join(', '), holds: logs.every((lines) => lines[1] === 'wiped') };
  }

  /** What became of the legacy client's messages, by queue. */
  #account(traffic: Traffic): void {
    const fates = [...traffic.fates.values()];
    const confirmed = fates.filter(({ confirmedAt }) => confirmedAt !== undefined);
    const received = fates.filter(({ receivedAt }) => receivedAt !== undefined);
    const lost = confirmed.filter(({ receivedAt }) => receivedAt === undefined);
    const wipedAt = this.#timeline!.phases.find(({ phase }) => phase === 'WaitingForCluster')?.at ?? 0;
    const sent = longestGap(confirmed.map(({ confirmedAt = 0 }) => confirmedAt));
    const came = longestGap(received.map(({ receivedAt = 0 }) => receivedAt));
    this.rows.push({ what: 'downtime seen by the publisher', seen: seconds(sent.milliseconds) });
    this.rows.push({ what: 'downtime seen by the consumer', seen: seconds(came.milliseconds) });
    this.rows.push({
      what: 'messages published, confirmed, received',
      seen: `${fates.length}, ${confirmed.length}, ${received.length}`,
      holds: confirmed.length === fates.length,
    });
    this.rows.push({
      what: 'lost after confirm: the client’s queues',
      seen: lost.length === 0 ? 'none' : byQueue(lost.map(({ queue }) => queue)),
      // What was confirmed by the new cluster is there.
      holds: lost.every(({ confirmedAt = 0 }) => confirmedAt < wipedAt),
    });
  }

  #compare(after: Definitions): void {
    const { counts, changes } = compare(this.#before, after);
    for (const { category, before, after, same } of counts)
      this.rows.push({
        what: `definitions: ${category}`,
        seen: `${before} before, ${after} after, ${same} the same`,
      });
    const dropped = changes
      .filter(({ change }) => change === 'dropped')
      .map(({ category, name }) => `${category} ${name}`);
    const isHa = (entry: string) => entry.startsWith('policies ') && entry.endsWith(' ha-all');
    this.rows.push({
      what: 'definitions that are gone',
      seen: dropped.join(', ') || 'none',
      holds: dropped.every(isHa),
    });
    for (const kind of ['changed', 'new'] as const) {
      const some = changes.filter(({ change }) => change === kind);
      for (const category of new Set(some.map((one) => one.category))) {
        const names = some.filter((one) => one.category === category);
        const fields = [...new Set(names.flatMap((one) => one.fields))].join(', ');
        const seen = `${names.map(({ name }) => name).join(', ')}${fields === '' ? '' : ` (${fields})`}`;
        this.rows.push({ what: `${category}: ${kind}`, seen });
      }
    }
  }

  async #flow(declarations: 'legacy' | 'quorum'): Promise<Traffic> {
    const { cluster } = this.#world;
    const service = { apiVersion: 'v1', kind: 'Service', metadata: { namespace: NAMESPACE, name: NAME } };
    const url = async (): Promise<string> => {
      const { spec } = await cluster.api.read<KubeObject & { spec: { clusterIP: string } }>(service);
      const { user, password, vhost } = ACCOUNT;
      return `amqp://${user}:${password}@${spec.clusterIP}:5672/${vhost}`;
    };
    const onChange = (line: string) => this.#narrator.progress(`${declarations} client, ${line}`);
    const traffic = new Traffic({ url, declarations, onChange });
    this.#traffic.push(traffic);
    traffic.start();
    await eventually('a client that works', async () => traffic.flows, 60_000);
    return traffic;
  }

  async #broker(): Promise<BrokerApi> {
    const { cluster, pods } = this.#world;
    const metadata = { namespace: NAMESPACE, name: `${NAME}-default-user` };
    const secret = { apiVersion: 'v1', kind: 'Secret', metadata };
    const { data } = await cluster.api.read<KubeObject & { data: Record<string, string> }>(secret);
    const text = (key: string) => Buffer.from(data[key] ?? '', 'base64').toString();
    return new BrokerApi(pods.address(NAMESPACE, `${NAME}-server-0`), text('username'), text('password'));
  }

  async #allReady(): Promise<void> {
    await eventually('AllReplicasReady', () => this.#isReady(), READY_TIMEOUT_MS);
  }

  async #isReady(): Promise<boolean> {
    const { status } = await this.#world.cluster.api.read<RabbitMq>(this.#rabbitmqCluster);
    const pods = await this.#pods();
    const isUp = ({ metadata, status: { conditions = [] } = {} }: PodObject) =>
      metadata.deletionTimestamp === undefined &&
      conditions.some((one) => one.type === 'Ready' && one.status === 'True');
    const told =
      status?.conditions?.some((one) => one.type === 'AllReplicasReady' && one.status === 'True') ?? false;
    return told && pods.length === this.#settings.replicas && pods.every(isUp);
  }

  async #pods(): Promise<PodObject[]> {
    return this.#world.cluster.api.list<PodObject>('v1', 'Pod', NAMESPACE);
  }

  async #proxies(wanted: boolean): Promise<{ seen: string; holds: boolean }> {
    const all = (await this.#pods()).map(({ spec }) => [...spec.containers, ...(spec.initContainers ?? [])]);
    const having = all.filter((containers) => containers.some(({ name }) => name === PROXY_CONTAINER)).length;
    return {
      seen: `in ${having} of ${all.length} pods`,
      holds: having === (wanted ? all.length : 0) && all.length > 0,
    };
  }

  get #world(): Surroundings {
    if (this.#surroundings === undefined) throw new DrillError('nothing runs yet');
    return this.#surroundings;
  }
}

function byQueue(queues: string[]): string {
  const counts = new Map<string, number>();
  for (const queue of queues) counts.set(queue, (counts.get(queue) ?? 0) + 1);
  return [...counts].map(([queue, count]) => `${count} in ${queue}`).join(', ');
}

function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(1)} s`;
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, milliseconds);
  });
}
