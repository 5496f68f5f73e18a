// The life of one pod: its sandbox and volumes, init containers in their order, containers with their probes, and the
// end with hooks and grace period.
import { appendFileSync } from 'node:fs';
import { mkdir, realpath, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { KubeApi } from '../kube-api.ts';
import { ContainerRun } from './container.ts';
import type { Mount } from './container.ts';
import { environmentOf, expand } from './environment.ts';
import type { Image, Images } from './images.ts';
import { Sandbox } from './network.ts';
import type { Names } from './network.ts';
import { domainNames } from './services.ts';
import { carryOut, repeat } from './probes.ts';
import { NODE_ADDRESS, timestamp } from './types.ts';
import type { Condition, ContainerSpec, ContainerState, PodObject } from './types.ts';
import { Volumes } from './volumes.ts';

/** What a kubelet has for all of its pods. */
export interface PodContext {
  api: KubeApi;
  images: Images;
  names: Names;
  /** The folder behind a claim; rejects while there is none. */
  claimFolder: (namespace: string, claim: string) => Promise<string>;
  /** For the pod's files. */
  folder: string;
  /** For the logs of its containers, which stay. */
  logs: string;
  /** Told what happens, a line each. */
  tell: (line: string) => void;
}

/** A container of the pod, over all of its runs. */
interface Slot {
  readonly spec: ContainerSpec;
  readonly image: string;
  /** An init container that goes on running. */
  readonly sidecar: boolean;
  state: ContainerState;
  last: ContainerState;
  restarts: number;
  started: boolean;
  ready: boolean;
  run?: ContainerRun;
}

/** `/etc/hosts` is a link to a file in it, which is replaced as a whole when names change. */
const HOSTS_FOLDER = '/etc/hosts.d';
/** Kubelets wait ten seconds at first. */
const BACKOFF_MS = { first: 1000, most: 10_000 };
const RETRY_MS = 500;
const VOLUME_INTERVAL_MS = 5000;
/** What a kubelet gives a container for SIGTERM, however long its preStop hook took. */
const LEAST_GRACE_MS = 2000;
/** For the container that a liveness probe ends. */
const LIVENESS_GRACE_MS = 30_000;

export class PodRuntime {
  /** When everything of it is gone. */
  readonly ended: Promise<void>;
  readonly #context: PodContext;
  readonly #number: number;
  readonly #init: Slot[];
  readonly #containers: Slot[];
  readonly #conditions = new Map<string, Condition>();
  readonly #stopping = Promise.withResolvers<void>();
  readonly #startTime = timestamp();
  #pod: PodObject;
  #sandbox: Sandbox | undefined;
  #volumes: Volumes | undefined;
  #volumesAt = 0;
  #initialized = false;
  #isStopping = false;
  #aborted = false;
  #isOver = false;

  constructor(context: PodContext, pod: PodObject, number: number) {
    this.#context = context;
    this.#pod = pod;
    this.#number = number;
    const slot = (spec: ContainerSpec, sidecar: boolean): Slot => {
      const state = { waiting: { reason: sidecar ? 'PodInitializing' : 'ContainerCreating' } };
      return { spec, image: spec.image, sidecar, state, last: {}, restarts: 0, started: false, ready: false };
    };
    this.#init = (pod.spec.initContainers ?? []).map((spec) => slot(spec, spec.restartPolicy === 'Always'));
    this.#containers = pod.spec.containers.map((spec) => slot(spec, false));
    this.ended = this.#live().then(() => {
      this.#isOver = true;
      return undefined;
    });
  }

  get address(): string | undefined {
    return this.#sandbox?.address;
  }

  /** Whether everything of it is gone. */
  get isOver(): boolean {
    return this.#isOver;
  }

  get uid(): string {
    return this.#pod.metadata.uid;
  }

  /** Takes note of what the API server says of the pod now. */
  update(pod: PodObject): void {
    const changed = pod.metadata.resourceVersion !== this.#pod.metadata.resourceVersion;
    this.#pod = pod;
    if (pod.metadata.deletionTimestamp !== undefined && !this.#isStopping) {
      this.#isStopping = true;
      this.#stopping.resolve();
    }
    // The downward API shows labels at once, and changed Secrets arrive by and by.
    const due = Date.now() - this.#volumesAt > VOLUME_INTERVAL_MS;
    if (this.#volumes === undefined || !this.#initialized || !(changed || due)) return;
    this.#volumesAt = Date.now();
    this.#volumes.prepare(pod).catch((error: unknown) => {
      if (!this.#isStopping) this.#tell((error as Error).message); // its Secrets may go before it does
    });
  }

  /** The API server has no such pod any more: no hooks, no grace. */
  abort(): void {
    this.#aborted = true;
    this.#isStopping = true;
    this.#stopping.resolve();
    for (const { run } of this.#slots()) void run?.kill();
  }

  /** The current run of a container, if it runs. */
  run(container: string): ContainerRun | undefined {
    const run = this.#slots().find(({ spec }) => spec.name === container)?.run;
    return run?.ended === false ? run : undefined;
  }

  /** `status` of the pod, as it is now. */
  status(): Record<string, unknown> {
    const initialized = this.#initialized;
    const ready = initialized && this.#serving().every((slot) => slot.ready);
    const began = this.#containers.every(
      ({ state }) => state.waiting === undefined || state.waiting.reason === 'CrashLoopBackOff',
    );
    const { address } = this;
    return {
      phase: initialized && began ? 'Running' : 'Pending',
      hostIP: NODE_ADDRESS,
      hostIPs: [{ ip: NODE_ADDRESS }],
      ...(address === undefined ? {} : { podIP: address, podIPs: [{ ip: address }] }),
      startTime: this.#startTime,
      conditions: [
        this.#condition('PodReadyToStartContainers', address !== undefined),
        this.#condition('Initialized', initialized),
        this.#condition('Ready', ready),
        this.#condition('ContainersReady', ready),
        this.#condition('PodScheduled', true),
      ],
      initContainerStatuses: this.#init.map(statusOf),
      containerStatuses: this.#containers.map(statusOf),
    };
  }

  // --------------------------------------------------------------- from start to end ---

  async #live(): Promise<void> {
    const { names, folder } = this.#context;
    const keeping: Promise<void>[] = [];
    const id = this.#pod.metadata.uid;
    try {
      await mkdir(folder, { recursive: true });
      await this.#begin(keeping);
    } catch (error) {
      this.#tell(`cannot go on: ${(error as Error).message}`);
    }
    await this.#stopping.promise;
    await Promise.all(this.#containers.map((slot) => this.#stop(slot)));
    for (const slot of this.#init.toReversed()) await this.#stop(slot);
    await Promise.all(keeping);
    this.#sandbox?.end();
    names.remove(id);
    await rm(folder, { recursive: true, force: true }).catch(() => {}); // the world's folder goes, too
  }

  async #begin(keeping: Promise<void>[]): Promise<void> {
    const { metadata, spec } = this.#pod;
    const { api, folder, names, claimFolder } = this.#context;
    const hostname = spec.hostname ?? metadata.name;
    this.#sandbox = await Sandbox.create(hostname, this.#number);
    const { address } = this.#sandbox;
    await names.add(metadata.uid, `${address} ${this.domainName() ?? ''} ${hostname}`);
    const volumes = new Volumes(api, join(folder, 'volumes'), address, (claim) =>
      claimFolder(metadata.namespace, claim),
    );
    await this.#insist(this.#slots(), 'ContainerCreating', () => volumes.prepare(this.#pod));
    this.#volumes = volumes;
    for (const slot of this.#init) {
      if (this.#isStopping) return;
      if (slot.sidecar) {
        keeping.push(this.#keep(slot));
        while (!slot.started && !this.#isStopping) await this.#pause(100);
      } else {
        await this.#complete(slot);
      }
    }
    if (this.#isStopping) return;
    this.#initialized = true;
    for (const slot of this.#containers) keeping.push(this.#keep(slot));
  }

  /** The name that the cluster's DNS has for it: that of a pod with a subdomain. */
  domainName(): string | undefined {
    const { metadata, spec } = this.#pod;
    const { hostname = metadata.name, subdomain } = spec;
    return subdomain === undefined
      ? undefined
      : domainNames(`${hostname}.${subdomain}.${metadata.namespace}`);
  }

  /** An init container, until it is through. */
  async #complete(slot: Slot): Promise<void> {
    for (let delay = BACKOFF_MS.first; !this.#isStopping; delay = Math.min(delay * 2, BACKOFF_MS.most)) {
      const run = await this.#start(slot);
      if (run === undefined) return;
      const terminated = await run.exited;
      this.#ended(slot, run, { terminated });
      if (terminated.exitCode === 0) {
        slot.ready = true;
        return;
      }
      await this.#backOff(slot, delay);
    }
  }

  /** A container that is started again whenever it ends. */
  async #keep(slot: Slot): Promise<void> {
    for (let delay = BACKOFF_MS.first; !this.#isStopping; delay = Math.min(delay * 2, BACKOFF_MS.most)) {
      const run = await this.#start(slot);
      if (run === undefined) return;
      const begun = Date.now();
      this.#watch(slot, run).catch((error: unknown) => this.#tell(`${slot.spec.name}: ${String(error)}`));
      const terminated = await run.exited;
      this.#ended(slot, run, { terminated });
      if (this.#isStopping) return;
      if (Date.now() - begun > BACKOFF_MS.most) delay = BACKOFF_MS.first;
      await this.#backOff(slot, delay);
    }
  }

  async #backOff(slot: Slot, delay: number): Promise<void> {
    slot.last = slot.state;
    const message = `back-off ${delay / 1000}s restarting failed container`;
    slot.state = { waiting: { reason: 'CrashLoopBackOff', message } };
    slot.restarts += 1;
    await this.#pause(delay);
  }

  #ended(slot: Slot, run: ContainerRun, state: ContainerState): void {
    slot.state = state;
    slot.started = false;
    slot.ready = false;
    this.#tell(
      `${slot.spec.name} ended with ${state.terminated!.exitCode} (log: ${this.logFile(slot.spec.name)})`,
    );
    if (slot.run === run) delete slot.run;
  }

  /** Starts a container as soon as that can be done; undefined when the pod is to end. */
  async #start(slot: Slot): Promise<ContainerRun | undefined> {
    return this.#insist([slot], 'CreateContainerConfigError', async () => {
      const { spec } = slot;
      const image = await this.#context.images.get(slot.image);
      const run = await ContainerRun.start({
        ...(await this.#process(spec, image)),
        folder: join(this.#context.folder, 'containers', `${spec.name}-${slot.restarts}`),
        image: image.folder,
        sandbox: this.#sandbox!.pid,
        logFile: this.logFile(spec.name),
      });
      slot.run = run;
      slot.state = { running: { startedAt: run.startedAt } };
      this.#tell(`${spec.name} started`);
      return run;
    });
  }

  async #process(spec: ContainerSpec, image: Image) {
    const { api } = this.#context;
    const own = spec.securityContext ?? {};
    const { securityContext = {} } = this.#pod.spec;
    const environment = { ...image.env, HOSTNAME: this.#pod.spec.hostname ?? this.#pod.metadata.name };
    Object.assign(environment, await environmentOf(api, this.#pod, spec, this.address!));
    const args = spec.args ?? (spec.command === undefined ? image.command : []);
    const words = [...(spec.command ?? image.entrypoint), ...args].map((word) => expand(word, environment));
    const { fsGroup, supplementalGroups = [] } = securityContext;
    return {
      environment,
      command: words,
      workingDir: spec.workingDir ?? image.workingDir,
      user: own.runAsUser ?? securityContext.runAsUser ?? image.user,
      group: own.runAsGroup ?? securityContext.runAsGroup ?? image.group,
      groups: fsGroup === undefined ? supplementalGroups : [fsGroup, ...supplementalGroups],
      readOnlyRoot: own.readOnlyRootFilesystem === true,
      mounts: await this.#mounts(spec),
    };
  }

  async #mounts({ volumeMounts = [] }: ContainerSpec): Promise<Mount[]> {
    const mounts: Mount[] = [];
    for (const { name, mountPath, subPath = '', readOnly = false } of volumeMounts) {
      const source = join(this.#volumes!.path(name), subPath);
      if (subPath !== '') await mkdir(source, { recursive: true }).catch(() => {}); // it is a file
      mounts.push({ source: await realpath(source), target: mountPath.replace(/\/+$/, ''), readOnly });
    }
    const hosts = this.#context.names.folder(this.#pod.metadata.uid);
    return [...mounts, { source: hosts, target: HOSTS_FOLDER, readOnly: true }];
  }

  /** The hook of the start, then the probes for as long as it runs. */
  async #watch(slot: Slot, run: ContainerRun): Promise<void> {
    const { spec } = slot;
    const { lifecycle, startupProbe, readinessProbe, livenessProbe } = spec;
    const podIP = this.address!;
    if (lifecycle?.postStart !== undefined) {
      const why = await carryOut(lifecycle.postStart, spec, run, podIP, LIVENESS_GRACE_MS);
      if (why !== '') {
        this.#tell(`${spec.name}: the postStart hook failed: ${why}`);
        return run.kill();
      }
    }
    slot.started = startupProbe === undefined && !run.ended;
    slot.ready = slot.started && readinessProbe === undefined;
    const restart = (what: string) => (passes: boolean, why: string) => {
      if (passes || this.#isStopping) return;
      this.#tell(`${spec.name}: the ${what} probe failed: ${why}`);
      void this.#stop(slot, Date.now() + LIVENESS_GRACE_MS);
    };
    if (startupProbe !== undefined) {
      const failed = restart('startup');
      const result = (passes: boolean, why: string): void => {
        slot.started ||= passes;
        slot.ready ||= passes && readinessProbe === undefined;
        failed(passes, why);
      };
      void repeat(startupProbe, spec, run, podIP, { runs: () => !slot.started, result });
    }
    if (livenessProbe !== undefined)
      void repeat(livenessProbe, spec, run, podIP, { runs: () => slot.started, result: restart('liveness') });
    if (readinessProbe !== undefined) {
      const result = (passes: boolean, why: string): void => {
        if (slot.ready !== passes)
          this.#tell(`${spec.name} is ${passes ? '' : 'not '}ready${why === '' ? '' : `: ${why}`}`);
        slot.ready = passes;
      };
      void repeat(readinessProbe, spec, run, podIP, { runs: () => slot.started, result });
    }
  }

  /** The hook before the end, SIGTERM, and SIGKILL when the time is over. */
  async #stop(slot: Slot, until?: number): Promise<void> {
    const { run, spec } = slot;
    if (run === undefined || run.ended) return;
    // A second deletion may have left less time.
    const deadline = (): number => until ?? Date.parse(this.#pod.metadata.deletionTimestamp ?? timestamp());
    const { preStop } = spec.lifecycle ?? {};
    if (preStop !== undefined && !this.#aborted) {
      const began = Date.now();
      const hook = carryOut(preStop, spec, run, this.address!, Math.max(deadline() - began, LEAST_GRACE_MS));
      const result: { why?: string } = {};
      void hook.then((why) => (result.why = why));
      while (result.why === undefined && !run.ended && Date.now() < deadline())
        await Promise.race([hook, wait(RETRY_MS)]);
      this.#tell(`${spec.name}: the preStop hook ${outcome(result.why)} after ${Date.now() - began} ms`);
    }
    run.signal('SIGTERM');
    const last = Date.now() + LEAST_GRACE_MS;
    while (!run.ended && Date.now() < Math.max(deadline(), last) && !this.#aborted)
      await Promise.race([run.exited, wait(RETRY_MS)]);
    if (!run.ended && !this.#aborted) this.#tell(`${spec.name} is killed: the grace period is over`);
    await run.kill();
  }

  // -------------------------------------------------------------------------- helpers ---

  /** Tries until it works or the pod is to end; why it does not is in the state of these containers. */
  async #insist<T>(slots: Slot[], reason: string, work: () => Promise<T>): Promise<T | undefined> {
    let told = '';
    while (!this.#isStopping) {
      try {
        return await work();
      } catch (error) {
        const { message } = error as Error;
        for (const slot of slots)
          slot.state = {
            waiting: { reason: message.startsWith('image "') ? 'ErrImagePull' : reason, message },
          };
        if (told !== message) this.#tell(`waits: ${message}`);
        told = message;
        await this.#pause(RETRY_MS);
      }
    }
    return undefined;
  }

  async #pause(milliseconds: number): Promise<void> {
    await Promise.race([wait(milliseconds), this.#stopping.promise]);
  }

  #slots(): Slot[] {
    return [...this.#init, ...this.#containers];
  }

  #serving(): Slot[] {
    return this.#slots().filter((slot) => slot.sidecar || this.#containers.includes(slot));
  }

  #condition(type: string, met: boolean): Condition {
    const status = met ? 'True' : 'False';
    const known = this.#conditions.get(type);
    if (known?.status === status) return known;
    const condition: Condition = { type, status, lastTransitionTime: timestamp() };
    this.#conditions.set(type, condition);
    return condition;
  }

  /** Where a container's log is kept, of all of its runs. */
  logFile(container: string): string {
    return join(this.#context.logs, `${container}.log`);
  }

  #tell(line: string): void {
    if (this.#aborted) return;
    const { name } = this.#pod.metadata;
    appendFileSync(join(this.#context.logs, 'events.log'), `${new Date().toISOString()} ${line}\n`);
    this.#context.tell(`pod ${name}: ${line}`);
  }
}

function statusOf({
  spec,
  image,
  state,
  last,
  restarts,
  started,
  ready,
  run,
}: Slot): Record<string, unknown> {
  return {
    name: spec.name,
    image,
    imageID: run === undefined ? '' : image,
    ...(run === undefined ? {} : { containerID: `process://${run.startedAt}` }),
    state,
    lastState: last,
    restartCount: restarts,
    started,
    ready,
  };
}

function outcome(why: string | undefined): string {
  if (why === undefined) return 'was not through';
  return why === '' ? 'ended' : `failed (${why})`;
}

function wait(milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, milliseconds);
  });
}
