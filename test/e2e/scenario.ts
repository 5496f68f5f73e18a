// The demo's steps, on real parts: from a manifest to a message delivered. `demo.ts` narrates them on a terminal,
// `demo.test.ts` asserts what they found.
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { stringify } from 'yaml';
import { makeCa, makeServingCertificate } from '../../certs/certificates.ts';
import { fetchBrokers } from '../support/broker.ts';
import type { Broker, BrokerVersion } from '../support/broker.ts';
import type { ExchangeInfo, QueueInfo } from '../support/management.ts';
import { flagOf, mapped, shorten, withAnnotation, withoutTombstone } from './objects.ts';
import { freePort } from '../support/ports.ts';
import { Service } from '../support/service.ts';
import { admit, asStored, proxyContainer, readCluster } from './admission.ts';
import type { Cluster } from './admission.ts';
import { LegacyClient } from './legacy-client.ts';
import type { Round } from './legacy-client.ts';
import type { Narrator, Row } from './narrator.ts';
import { NODE_CONF, clientUrl, nodeFiles, ownTarget, startTlsBroker, userTarget } from './target.ts';
import type { Target, TlsFiles } from './target.ts';

export const SAMPLE = 'manifests/samples/rabbitmqcluster.yaml';
const RECONFIGURED = 'rabbitmq.openstack.org/clients-reconfigured';
const MESSAGES_OF_A_KIND = 100;

/** What the steps found, for assertions. */
export interface Facts {
  direct310?: Round;
  /** The error that the client got from RabbitMQ 4 directly. */
  refusal?: string;
  original?: Cluster;
  injected?: Cluster;
  /** Each changed argument: as injected, as run here. */
  mapped?: [injected: string, here: string][];
  proxied?: Round;
  queues?: QueueInfo[];
  exchanges?: ExchangeInfo[];
  removed?: Cluster;
}

/** A step that failed, with what went before it. */
export class StepError extends Error {
  readonly rows: Row[];

  constructor(message: string, rows: Row[], cause: unknown) {
    super(message, { cause });
    this.rows = rows;
  }
}

/** Thrown by a step that cannot be shown here. */
class Skip extends Error {}

export class Scenario {
  readonly facts: Facts = {};
  readonly rows: Row[] = [];
  readonly #tell: Narrator;
  readonly #keep: boolean;
  readonly #resources = new AsyncDisposableStack();
  readonly #kept: { how: string; release: () => void | Promise<void> }[] = [];
  readonly #extra: string[] = [];
  #folder = '';
  #tls!: TlsFiles;
  #target!: Target;
  #webhook!: { url: string; ca: string };

  /** With `keep`, brokers of a step that has ended run on. */
  constructor(narrator: Narrator, keep = false) {
    this.#tell = narrator;
    this.#keep = keep;
  }

  /** Runs all steps. Rejects with a StepError at the first that fails; call `end` or `keep` in any case. */
  async run(environment: NodeJS.ProcessEnv): Promise<void> {
    await this.#step('0', 'The parts', () => this.#prepare(environment));
    await this.#step('a', 'A legacy client without Quorumbridge: RabbitMQ 3.10', () => this.#directOn310());
    await this.#step('a', `The same client on ${this.#target.title}`, () => this.#directOn4());
    await this.#step('b', 'The webhook injects the proxy', () => this.#inject());
    await this.#step('c', 'RabbitMQ takes the injected configuration', () => this.#configureBroker());
    await this.#step('c', 'The proxy starts with the injected args', () => this.#startSidecar());
    const client = new LegacyClient({ ...this.#names(), ...this.#target.proxied });
    try {
      await this.#step('d', 'The same client, unchanged, through the proxy', () =>
        this.#throughProxy(client),
      );
      await this.#step('d', "What RabbitMQ's management API shows", () => this.#lookAtQueues(client));
    } finally {
      await client.close();
      await this.#forget(client);
    }
    await this.#step('e', 'clients-reconfigured takes it all out again', () => this.#remove());
  }

  /** Stops and deletes everything. */
  async end(): Promise<void> {
    await this.#resources.disposeAsync();
  }

  /** Lets everything run on; returns lines that say how to connect and how to stop. */
  async keep(): Promise<string[]> {
    this.#resources.move();
    const { proxied, addresses, broker } = this.#target;
    for (const kept of this.#kept) await kept.release();
    return [
      `through the proxy   ${proxied.url}   (CA: ${join(this.#folder, 'tls/ca.crt')})`,
      `   without TLS      amqp://${addresses.amqp}`,
      ...(broker === undefined ? [] : [`management          ${broker.managementUrl}   (guest, guest)`]),
      `webhook             ${this.#webhook.url}   (CA: ${join(this.#folder, 'webhook-ca.crt')})`,
      ...this.#extra,
      `stop all            ${this.#kept.map((kept) => kept.how).join('; ')}; rm -r ${this.#folder}`,
    ];
  }

  async #step(id: string, title: string, work: () => Promise<string>): Promise<void> {
    this.#tell.step(id, title);
    try {
      this.rows.push({ id, title, result: 'shown', detail: await work() });
    } catch (error) {
      const detail = (error as Error).message;
      if (error instanceof Skip) {
        this.#tell.say(`Skipped: ${detail}`);
        this.rows.push({ id, title, result: 'skipped', detail });
        return;
      }
      const lines = detail.trim().split('\n');
      const summary = lines.length > 1 ? `${lines[0]} ... ${lines.at(-1)}` : detail;
      this.rows.push({ id, title, result: 'FAILED', detail: summary.slice(0, 160) });
      throw new StepError(`step ${id} (${title}) failed: ${detail}`, this.rows, error);
    }
  }

  async #prepare(environment: NodeJS.ProcessEnv): Promise<string> {
    this.#folder = await mkdtemp(join(tmpdir(), 'quorumbridge-demo-'));
    this.#resources.defer(() => rm(this.#folder, { recursive: true, force: true }));
    const progress = (line: string) => this.#tell.progress(line);
    progress("making a CA and the server certificate of the cluster's TLS Secret");
    const ca = await makeCa({ commonName: 'Quorumbridge demo CA', days: 1 });
    const server = await makeServingCertificate({ ca, dnsNames: ['localhost'], ips: ['127.0.0.1'], days: 1 });
    this.#tls = { ca: ca.cert, cert: server.cert, key: server.key };
    await mkdir(join(this.#folder, 'tls'));
    for (const [name, content] of Object.entries(nodeFiles(this.#tls))) {
      await writeFile(join(this.#folder, 'tls', name), content, { mode: 0o600 });
    }
    const address = environment['QUORUMBRIDGE_BROKER_URL'];
    if (address !== undefined && address !== '') {
      this.#target = await userTarget(address, environment['QUORUMBRIDGE_MANAGEMENT_URL'], this.#tls);
    } else {
      progress('RabbitMQ 4.3: starting (the first run fetches it)');
      const broker = await this.#broker('4.3');
      this.#target = await ownTarget(broker, this.#tls);
      progress(
        `${this.#target.title} answers at 127.0.0.1:${broker.port} and, with TLS, :${broker.amqpsPort}`,
      );
    }
    return this.#target.title;
  }

  async #directOn310(): Promise<string> {
    const progress = (line: string) => this.#tell.progress(line);
    try {
      await fetchBrokers(['3.10'], progress);
    } catch (error) {
      throw new Skip(
        `no RabbitMQ 3.10 can be had here: ${(error as Error).message.replaceAll(/\s+/g, ' ')}`,
        { cause: error },
      );
    }
    progress('RabbitMQ 3.10: starting');
    const broker = await this.#broker('3.10');
    this.#tell.say(
      'A Node.js client declares what oslo.messaging declares by default: transient, shared queues.',
    );
    const client = new LegacyClient({
      url: clientUrl(broker),
      ca: this.#tls.ca,
      exchange: 'openstack',
      topic: 'conductor',
    });
    try {
      await client.start();
      this.facts.direct310 = await client.round(MESSAGES_OF_A_KIND);
      for (const name of client.queues) {
        const queue = await broker.management.queue(name);
        this.#tell.say(`queue ${shorten(name)}: ${queue.type}, durable=${queue.durable}`);
      }
    } finally {
      await client.close();
    }
    if (this.#keep) this.#extra.push(`RabbitMQ 3.10       ${clientUrl(broker)}   (the same CA)`);
    else await broker.stop();
    return this.#account(this.facts.direct310);
  }

  async #directOn4(): Promise<string> {
    const client = new LegacyClient({ ...this.#names(), ...this.#target.direct });
    try {
      await client.start();
    } catch (error) {
      this.facts.refusal = (error as Error).message;
      if (!/\b541\b/.test(this.facts.refusal)) throw error;
      this.#tell.say('The broker closes the connection. Its own words:');
      for (const line of this.facts.refusal.split('\n')) this.#tell.say(`  ${line}`);
      return 'refused with 541 INTERNAL_ERROR: transient_nonexcl_queues';
    } finally {
      await client.close();
      await this.#forget(client);
    }
    if (this.#target.broker !== undefined)
      throw new Error('RabbitMQ 4.3 took the declarations of a legacy client');
    throw new Skip('this broker still permits transient queues: 4.3 as upstream ships it does not');
  }

  async #inject(): Promise<string> {
    const port = await freePort();
    const admin = `127.0.0.1:${await freePort()}`;
    const caFile = join(this.#folder, 'webhook-ca.crt');
    const args = ['webhook', `--listen=127.0.0.1:${port}`, `--admin-listen=${admin}`, '--self-signed'];
    await this.#serve([...args, `--ca-out=${caFile}`, '--no-cluster', '--shutdown-delay=0'], admin);
    this.#webhook = { url: `https://localhost:${port}/mutate`, ca: readFileSync(caFile, 'utf8') };
    this.#tell.say(
      `quorumbridge webhook serves ${this.#webhook.url} with a certificate of its own CA, which the`,
    );
    this.#tell.say(`client verifies. An API server's AdmissionReview for ${SAMPLE}:`);
    const original = asStored(readCluster(SAMPLE));
    const { patch, warnings, object } = await admit(this.#webhook, original);
    this.facts.original = original;
    this.facts.injected = object;
    for (const warning of warnings) this.#tell.say(`warning: ${warning}`);
    this.#tell.diff(stringify(original), stringify(object), [SAMPLE, `${SAMPLE} as admitted`]);
    if (proxyContainer(object) === undefined)
      throw new Error('the patched pod template has no container amqp-proxy');
    return `${patch.length} JSON Patch operations, container amqp-proxy added`;
  }

  async #configureBroker(): Promise<string> {
    const { addresses, broker } = this.#target;
    if (broker === undefined)
      throw new Skip('the broker is yours, its configuration stays; the proxy dials it as it is');
    const injected = this.facts.injected?.spec.rabbitmq?.advancedConfig ?? '';
    const advanced = injected.replaceAll(/\b5673\b/g, String(broker.backendPort));
    this.#tell.say(
      'RabbitMQ starts with empty storage, as after an upgrade that wipes it, and with the injected',
    );
    this.#tell.say(`advanced.config (5673 is ${broker.backendPort} here):`);
    for (const line of advanced.trim().split('\n')) this.#tell.say(`  ${line}`);
    await broker.replace({ conf: NODE_CONF, advanced, files: nodeFiles(this.#tls) });
    this.#tell.progress(`RabbitMQ answers on ${addresses.backend} and has left the clients' ports`);
    return `it listens on ${addresses.backend} alone, without TLS, with the PROXY protocol`;
  }

  async #startSidecar(): Promise<string> {
    const { addresses, proxyArgs } = this.#target;
    const admin = `127.0.0.1:${await freePort()}`;
    const places: [injected: string, here: string][] = [
      ['127.0.0.1:5673', addresses.backend],
      ['0.0.0.0:5672', addresses.amqp],
      ['0.0.0.0:5671', addresses.amqps],
      ['0.0.0.0:15695', admin],
      ['/etc/rabbitmq-tls-ca/', `${join(this.#folder, 'tls')}/`],
      ['/etc/rabbitmq-tls/', `${join(this.#folder, 'tls')}/`],
    ];
    const injected = proxyContainer(this.facts.injected!)?.args ?? [];
    const overridden = new Set(proxyArgs.map(flagOf));
    const args = [
      ...injected.filter((arg) => !overridden.has(flagOf(arg))).map((arg) => mapped(arg, places)),
      ...proxyArgs,
    ];
    this.facts.mapped = injected.flatMap((arg): [string, string][] => {
      const here = mapped(arg, places);
      return here === arg ? [] : [[arg, here]];
    });
    this.#tell.say('The proxy starts with the args of the injected container, ports and paths mapped:');
    for (const arg of injected) {
      const here =
        args.find((other) => other === mapped(arg, places)) ??
        proxyArgs.find((other) => flagOf(other) === flagOf(arg));
      this.#tell.say(`  ${arg}${here === arg ? '' : `  ->  ${here ?? 'left out'}`}`);
    }
    await this.#serve(['proxy', ...args], admin);
    this.#tell.progress('the proxy is ready: its backend answers an AMQP handshake');
    return proxyArgs.length === 0 ? `${injected.length} args` : `with ${proxyArgs.join(' ')} for your broker`;
  }

  async #throughProxy(client: LegacyClient): Promise<string> {
    await client.start();
    const round = await client.round(MESSAGES_OF_A_KIND);
    this.facts.proxied = round;
    const detail = this.#account(round);
    if (round.lost !== 0 || round.confirmed !== round.sent) throw new Error(detail);
    return detail;
  }

  async #lookAtQueues(client: LegacyClient): Promise<string> {
    const { management, broker } = this.#target;
    if (broker === undefined && !(await management.version().then(Boolean, () => false))) {
      throw new Skip('your management API does not answer: set QUORUMBRIDGE_MANAGEMENT_URL');
    }
    const queues = await Promise.all(client.queues.map((name) => management.queue(name)));
    const exchanges = await Promise.all(client.exchanges.map((name) => management.exchange(name)));
    this.facts.queues = queues;
    this.facts.exchanges = exchanges;
    for (const { name, type, durable } of queues) {
      this.#tell.say(`queue     ${shorten(name).padEnd(30)} type=${type} durable=${durable}`);
    }
    for (const { name, type, durable } of exchanges) {
      this.#tell.say(`exchange  ${shorten(name).padEnd(30)} type=${type} durable=${durable}`);
    }
    const wrong = [
      ...queues.filter((queue) => queue.type !== 'quorum' || !queue.durable),
      ...exchanges.filter((x) => !x.durable),
    ];
    if (wrong.length > 0)
      throw new Error(`not quorum or not durable: ${wrong.map(({ name }) => name).join(', ')}`);
    return `${queues.length} queues are quorum and durable, ${exchanges.length} exchanges durable`;
  }

  async #remove(): Promise<string> {
    const { original, injected } = this.facts;
    if (original === undefined || injected === undefined) throw new Error('nothing was injected');
    const annotated = withAnnotation(injected, RECONFIGURED, 'true');
    const { object } = await admit(this.#webhook, annotated, injected);
    this.facts.removed = object;
    this.#tell.diff(stringify(annotated), stringify(object), ['injected, annotated', 'as admitted']);
    if (proxyContainer(object) !== undefined) throw new Error('the container amqp-proxy is still there');
    const wanted = withAnnotation(original, RECONFIGURED, 'true');
    if (!isDeepStrictEqual(withoutTombstone(object), wanted)) {
      throw new Error(
        'apart from a tombstone annotation, the object is not what it was before the injection',
      );
    }
    this.#tell.say('Value for value what it was before, but for a tombstone annotation on the pod template:');
    this.#tell.say('the cluster operator never removes one, so a value says that it is void.');
    return 'value for value what it was before, but for a tombstone annotation';
  }

  async #broker(version: BrokerVersion): Promise<Broker> {
    const folder = await mkdtemp(join(this.#folder, 'broker-'));
    const broker = await startTlsBroker(version, this.#tls, folder, (line) => this.#tell.progress(line));
    this.#resources.use(broker);
    this.#kept.push({ how: broker.stopCommand, release: () => broker.detach() });
    return broker;
  }

  /** Starts `quorumbridge ARGS` and waits for its /readyz. */
  async #serve(args: string[], admin: string): Promise<void> {
    const service = new Service(args, join(this.#folder, `${args[0]}.log`));
    this.#resources.defer(async () => void (await service.stop()));
    this.#kept.unshift({ how: `kill ${service.pid}`, release: () => service.release() });
    await service.ready(`http://${admin}/readyz`);
  }

  #names(): { exchange: string; topic: string } {
    return { exchange: this.#target.exchange, topic: this.#target.topic };
  }

  #account({ sent, received, lost, confirmed }: Round): string {
    const text = `${sent} sent, ${received} received, ${lost} lost`;
    this.#tell.say(`${text} (${confirmed} confirmed by the broker).`);
    return text;
  }

  /** On the user's broker nothing is left behind. */
  async #forget(client: LegacyClient): Promise<void> {
    if (this.#target.broker === undefined) await client.forget(this.#target.direct);
  }
}
