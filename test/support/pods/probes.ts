// Probes and lifecycle hooks, carried out from where a kubelet stands: in the container, or over the pod's network.
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ContainerRun } from './container.ts';
import type { ContainerSpec, Handler, Probe } from './types.ts';

/** Carries out a probe or a hook once; returns why it failed, or an empty text. */
export async function carryOut(
  handler: Handler,
  container: ContainerSpec,
  run: ContainerRun,
  podIP: string,
  timeoutMs: number,
): Promise<string> {
  const { exec, httpGet, tcpSocket } = handler;
  if (exec !== undefined) {
    const { code, output } = await run.exec(exec.command, timeoutMs);
    return code === 0 ? '' : `exit code ${code}: ${output.trim()}`;
  }
  if (tcpSocket !== undefined) {
    const { host = podIP, port } = tcpSocket;
    return dial(host, portNumber(container, port), timeoutMs);
  }
  if (httpGet !== undefined) return get(httpGet, container, podIP, timeoutMs);
  if (handler.sleep !== undefined) {
    await sleep(Math.min(handler.sleep.seconds * 1000, timeoutMs));
    return '';
  }
  return `${Object.keys(handler).join()} is no handler that test pods know`;
}

export interface ProbeEvents {
  /** Whether the probe is carried out now; between starts of the container it is not. */
  runs: () => boolean;
  /** The thresholds were met. */
  result: (passes: boolean, why: string) => void;
}

/** Repeats a probe until the container has ended. */
export async function repeat(
  probe: Probe,
  container: ContainerSpec,
  run: ContainerRun,
  podIP: string,
  events: ProbeEvents,
): Promise<void> {
  const { initialDelaySeconds = 0, periodSeconds = 10, timeoutSeconds = 1 } = probe;
  const { successThreshold = 1, failureThreshold = 3 } = probe;
  let passed = 0;
  let failed = 0;
  await waitFor(initialDelaySeconds * 1000, run);
  while (!run.ended) {
    const began = Date.now();
    if (events.runs()) {
      const why = await carryOut(probe, container, run, podIP, timeoutSeconds * 1000);
      if (run.ended) return;
      passed = why === '' ? passed + 1 : 0;
      failed = why === '' ? 0 : failed + 1;
      if (passed >= successThreshold) events.result(true, '');
      if (failed >= failureThreshold) events.result(false, why);
    }
    await waitFor(periodSeconds * 1000 - (Date.now() - began), run);
  }
}

async function waitFor(milliseconds: number, run: ContainerRun): Promise<void> {
  await Promise.race([sleep(Math.max(0, milliseconds)), run.exited]);
}

function portNumber({ ports = [] }: ContainerSpec, port: number | string): number {
  if (typeof port === 'number') return port;
  return ports.find(({ name }) => name === port)?.containerPort ?? Number(port);
}

function dial(host: string, port: number, timeoutMs: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: timeoutMs });
    const end = (why: string): void => {
      socket.destroy();
      resolve(why);
    };
    socket.once('connect', () => end(''));
    socket.once('timeout', () => end(`dial tcp ${host}:${port}: i/o timeout`));
    socket.once('error', (error) => end(`dial tcp ${host}:${port}: ${error.message}`));
  });
}

function get(
  { path = '/', port, host, scheme = 'HTTP', httpHeaders = [] }: NonNullable<Handler['httpGet']>,
  container: ContainerSpec,
  podIP: string,
  timeoutMs: number,
): Promise<string> {
  const target = { host: host ?? podIP, port: portNumber(container, port), path };
  const headers = Object.fromEntries(httpHeaders.map(({ name, value }) => [name, value]));
  return new Promise((resolve) => {
    // A kubelet does not look at certificates either.
    const options = { ...target, headers, timeout: timeoutMs, rejectUnauthorized: false, agent: false };
    const outgoing = scheme === 'HTTPS' ? httpsRequest(options) : httpRequest(options);
    outgoing.on('response', (incoming) => {
      incoming.resume();
      const code = incoming.statusCode ?? 0;
      resolve(code >= 200 && code < 400 ? '' : `HTTP probe failed with statuscode: ${code}`);
      outgoing.destroy();
    });
    outgoing.on('timeout', () => outgoing.destroy(new Error('context deadline exceeded')));
    outgoing.on('error', (error) => resolve(error.message));
    outgoing.end();
  });
}
