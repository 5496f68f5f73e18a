import { makeCertificate, temporaryFolder } from './certificate.ts';
import { type Case, CASES, type World } from './cases.ts';
import type { LoadFunctions } from './load-process.ts';
import type { BenchSettings } from './options.ts';
import { Remote } from './remote.ts';
import { describeMachine, type Results } from './results.ts';
import type { Figures, Peers } from './runs.ts';
import type { SinkFunctions } from './sink-process.ts';
import { anyCommand, direct, findHaproxy, haproxy, MODES, quorumbridge, type TargetKind } from './targets.ts';
import { Missing, Place } from './worlds.ts';

/** Worlds in the order in which they are measured: what is heavy comes last. */
const WORLDS: readonly World[] = ['near', 'fresh', 'far', 'rabbit'];

/** Memory hardly differs from round to round, and takes long. */
const FRESH_ROUNDS = 3;

/** A real broker's rate differs by a fifth from run to run, of whatever target: so many rounds for each that is asked for. */
const RABBIT_ROUNDS = 3;

/** No run takes so long, in milliseconds: whatever hangs is a fault. */
const RUN_MS = 180_000;

/** What a benchmark tells while it runs. */
export interface Listener {
  /** Before the first case: the targets that can be had, and those that can't, with the reason. */
  begins(targets: readonly string[], missing: Results['missing']): void;
  /** A case is done. */
  measured(one: Case, found: Results['cases'][string]): void;
}

/** The targets that were asked for, and why others can't be had. */
async function prepare(
  { targets, commands }: BenchSettings,
  folder: string,
): Promise<{
  kinds: TargetKind[];
  missing: Record<string, string>;
  ca: string;
  versions: Record<string, string>;
}> {
  const certificate = await makeCertificate(folder);
  const missing: Record<string, string> = {};
  const versions: Record<string, string> = {};
  const kinds: TargetKind[] = [];
  if (targets.includes('direct')) kinds.push(direct);
  if (targets.includes('haproxy')) {
    const { program, version, why } = await findHaproxy();
    if (why === '') {
      kinds.push(haproxy(program, folder, certificate));
      versions['haproxy'] = version;
    } else missing['haproxy'] = why;
  }
  const modes = MODES.filter((mode) => targets.includes(mode));
  if (modes.length > 0) kinds.push(...(await quorumbridge(modes, folder, certificate)));
  const chosen = commands.filter(({ name }) => targets.includes(name));
  kinds.push(...chosen.map(({ name, command }) => anyCommand(name, command, certificate)));
  return { kinds, missing, ca: certificate.ca, versions };
}

/** One run, which ends in time; rejects with its name. */
async function inTime<T>(run: Promise<T>, what: string): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`no end within ${RUN_MS / 1000} s`)), RUN_MS);
  try {
    return await Promise.race([run, late.promise]);
  } catch (error) {
    throw new Error(what, { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

/** How many rounds of a case count. */
function roundsOf(world: World, asked: number): number {
  if (world === 'fresh') return Math.min(asked, FRESH_ROUNDS);
  return world === 'rabbit' ? asked * RABBIT_ROUNDS : asked;
}

/** All rounds of a case, by target. */
async function measure(
  one: Case,
  place: Place,
  peers: Peers,
  settings: BenchSettings,
): Promise<Record<string, Figures[]>> {
  const found: Record<string, Figures[]> = {};
  const isFresh = one.world === 'fresh';
  const rounds = roundsOf(one.world, settings.rounds);
  const measured = settings.quick ? one.quick! : one.count;
  // One round ahead that doesn't count, as long in a quick run as in any: compilers and caches get warm.
  const ahead = Math.ceil(one.count / 2);
  for (let round = isFresh ? 1 : 0; round <= rounds; round++) {
    await place.each(round, one.tls, async (target) => {
      if (one.tls && target.tlsPort === undefined) return;
      const run = one.run(peers, target, round === 0 ? ahead : measured, one.tls);
      const figures = await inTime(run, `${one.name} with ${target.name}`);
      if (round > 0) (found[target.name] ??= []).push(figures);
    });
  }
  return found;
}

/** Measures what the settings say, each case in rounds in which all targets have their turn. */
export async function bench(
  settings: BenchSettings,
  cleanup: AsyncDisposableStack,
  listener: Listener,
): Promise<Results> {
  const { kinds, missing, ca, versions } = await prepare(settings, temporaryFolder(cleanup));
  const load = cleanup.use(new Remote<LoadFunctions>('load-process.ts'));
  const sink = cleanup.use(new Remote<SinkFunctions>('sink-process.ts'));
  const port = await sink.call('start');
  await load.call('trust', ca);
  listener.begins(
    kinds.map(({ name }) => name),
    missing,
  );
  const cases: Record<string, Record<string, Figures[]>> = {};
  for (const world of WORLDS) {
    const all = CASES.filter((one) => one.world === world && settings.cases.includes(one.name));
    if (all.length === 0) continue;
    const place = await Place.start(world, port, kinds).catch((error: unknown) => {
      if (error instanceof Missing) return error;
      throw error;
    });
    if (place instanceof Missing) {
      missing[place.what] = place.message;
      continue;
    }
    cleanup.use(place);
    if (place.rabbit !== undefined) versions['rabbitmq'] = place.rabbit.version;
    const peers = { load, sink, rabbit: place.rabbit };
    for (const one of all) {
      const found = await measure(one, place, peers, settings);
      cases[one.name] = found;
      listener.measured(one, found);
    }
    await place[Symbol.asyncDispose]();
  }
  const { rounds, quick } = settings;
  const made = new Date().toISOString().slice(0, 10);
  return { made, machine: describeMachine(), rounds, quick, missing, versions, cases };
}
