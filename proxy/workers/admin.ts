import type { AdminAnswer, AdminRequest, AdminRoute, AdminStream } from '../../common/admin-route.ts';
import type { Logger } from '../../common/log.ts';
import { needingOf } from '../admin/api.ts';
import { CONNECTION_PARAMETERS, type ConnectionQuery, pageOf } from '../admin/connections.ts';
import type {
  ConnectionDocument,
  ConnectionsDocument,
  PauseDocument,
  PoolDocument,
  StateDocument,
  StatsDocument,
} from '../admin/documents.ts';
import { Feed } from '../admin/feed.ts';
import { refusal } from '../admin/operation.ts';
import { BadRequest, readQuery } from '../admin/parameters.ts';
import type { LedgerDocument } from '../ledger-document.ts';
import { mergeLedgers, mergePauses, mergePools, mergeStats } from './merge.ts';
import type { Serving } from './supervisor.ts';

const JSON_TYPE = 'application/json';

/** Connections that are asked for at once. */
const PAGE = 1000;

/** What is asked of one process, and there are several. */
const OF_ONE = ['/debug/profile', '/debug/heap', '/debug/heap-profile'];
const FAULTS = [
  ['GET', '/faults'],
  ['POST', '/faults/sever'],
  ['POST', '/faults/delay'],
  ['DELETE', '/faults'],
] as const;

export interface WorkersAdminSettings {
  /** The workers that serve now. */
  readonly serving: () => readonly Serving[];
  readonly count: number;
  readonly reload: (cause: string) => Promise<AdminAnswer>;
  readonly log: Logger;
}

function json(document: object): AdminAnswer {
  return { status: 200, body: `${JSON.stringify(document)}\n`, type: JSON_TYPE };
}

/** The admin API of all workers together. */
export class WorkersAdmin {
  readonly routes: readonly AdminRoute[];
  readonly #settings: WorkersAdminSettings;
  readonly #feed: Feed;
  /** What listeners are told next, and when it was asked for. */
  #state:
    | { readonly rest: Omit<StateDocument, 'connections'>; readonly all: ConnectionDocument[] }
    | undefined;
  #isAsking = false;

  constructor(settings: WorkersAdminSettings) {
    this.#settings = settings;
    this.#feed = new Feed(() => void this.#look(), settings.log);
    const route = (
      method: AdminRoute['method'],
      path: string,
      handle: AdminRoute['handle'],
      open = false,
    ): AdminRoute => ({ method, path, open, handle: (request) => orBadRequest(handle, request) });
    const { count } = settings;
    const why = `not with --workers=${count}: it is about one process`;
    this.routes = [
      route('GET', '/stats', async () => json(await this.#stats())),
      route('GET', '/connections', async ({ query }) =>
        json(pageOf(await this.#connections(), readQuery(CONNECTION_PARAMETERS, query))),
      ),
      route('GET', '/pool', () => this.#pool()),
      route('GET', '/events', ({ query }) => this.#events(readQuery(CONNECTION_PARAMETERS, query))),
      route('DELETE', '/connections/{id}', ({ params }) => this.#close(params['id']!)),
      route('POST', '/vhosts/{vhost}/pause', (request) => this.#pause('pause', request)),
      route('POST', '/vhosts/{vhost}/resume', (request) => this.#pause('resume', request)),
      route('GET', '/config/effective', () => this.#first('GET', '/config/effective')),
      route('POST', '/reload', () => settings.reload('admin API')),
      ...FAULTS.map(([method, path]) => route(method, path, async () => refusal(501, `${path}: ${why}`))),
      ...OF_ONE.map((path) => route('GET', path, async () => refusal(501, `${path}: ${why}`))),
      route('GET', '/openapi.json', () => this.#first('GET', '/openapi.json'), true),
      route('GET', '/', () => this.#first('GET', '/'), true),
    ];
  }

  /** GET /clients. */
  async ledger(): Promise<LedgerDocument> {
    return mergeLedgers(await this.#documents<LedgerDocument>('/clients'));
  }

  /** Why clients should go elsewhere; undefined: they shouldn't. */
  async unready(): Promise<readonly string[] | undefined> {
    const answers = await this.#all('GET', '/readyz');
    if (answers.some(({ status }) => status === 200)) return undefined;
    return answers[0]?.body.trim().split('\n').slice(1) ?? ['no worker serves clients'];
  }

  /** What those answer that do. */
  async #all(method: AdminRoute['method'], url: string): Promise<AdminAnswer[]> {
    const asked = this.#settings.serving().map(({ caller }) => caller.call('request', [method, url]));
    const answers = await Promise.allSettled(asked);
    return answers.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  }

  async #first(method: AdminRoute['method'], url: string): Promise<AdminAnswer> {
    const [one] = this.#settings.serving();
    return one === undefined ? NOBODY : one.caller.call('request', [method, url]);
  }

  /** @throws Error when no worker answers */
  async #documents<T>(url: string): Promise<T[]> {
    const answers = await this.#all('GET', url);
    const documents = answers.filter(({ status }) => status === 200).map(({ body }) => JSON.parse(body) as T);
    if (documents.length === 0) throw new Error('no worker serves clients');
    return documents;
  }

  async #stats(): Promise<StatsDocument> {
    return mergeStats(await this.#documents<StatsDocument>('/stats'));
  }

  async #connections(): Promise<ConnectionDocument[]> {
    const all: ConnectionDocument[] = [];
    const read = async ({ caller }: Serving): Promise<void> => {
      for (let offset = 0; ; offset += PAGE) {
        const url = `/connections?limit=${PAGE}&offset=${offset}`;
        const { body } = await caller.call('request', ['GET', url]);
        const page = JSON.parse(body) as ConnectionsDocument;
        all.push(...page.connections);
        if (page.connections.length < PAGE) return;
      }
    };
    await Promise.allSettled(this.#settings.serving().map(read));
    return all;
  }

  async #pool(): Promise<AdminAnswer> {
    const answers = await this.#all('GET', '/pool');
    const [refused] = answers.filter(({ status }) => status !== 200);
    if (refused !== undefined || answers.length === 0) return refused ?? NOBODY;
    return json(mergePools(answers.map(({ body }) => JSON.parse(body) as PoolDocument)));
  }

  async #close(id: string): Promise<AdminAnswer> {
    const { serving, count } = this.#settings;
    const path = `/connections/${encodeURIComponent(id)}`;
    const index = ((Number(id) - 1) % count) + 1;
    const own = serving().find((one) => one.index === index);
    // Of what is no number any worker says so.
    return own === undefined ? this.#first('DELETE', path) : own.caller.call('request', ['DELETE', path]);
  }

  async #pause(what: 'pause' | 'resume', { params, query }: AdminRequest): Promise<AdminAnswer> {
    const search = query.size === 0 ? '' : `?${query.toString()}`;
    const answers = await this.#all(
      'POST',
      `/vhosts/${encodeURIComponent(params['vhost']!)}/${what}${search}`,
    );
    const done = answers.filter(({ status }) => status === 200);
    if (done.length === 0) return answers[0] ?? NOBODY;
    const [document] = mergePauses(done.map(({ body }) => JSON.parse(body) as PauseDocument));
    return json(document!);
  }

  async #events(query: ConnectionQuery): Promise<AdminAnswer | AdminStream> {
    if (this.#feed.isFull) return refusal(503, `${this.#feed.size} listen already, the limit`);
    await this.#look();
    if (this.#state === undefined) return NOBODY;
    const document = (): StateDocument => {
      const { rest, all } = this.#state!;
      return { ...rest, connections: pageOf(all, query) };
    };
    return { type: 'text/event-stream', stream: (response) => this.#feed.add(response, document) };
  }

  /** Asks the workers for what listeners are told from now on. */
  async #look(): Promise<void> {
    if (this.#isAsking) return;
    this.#isAsking = true;
    try {
      const [stats, all, states] = await Promise.all([
        this.#stats(),
        this.#connections(),
        this.#documents<LedgerDocument>('/clients'),
      ]);
      const pool = await this.#pool();
      this.#state = {
        rest: {
          stats,
          pool: pool.status === 200 ? (JSON.parse(pool.body) as PoolDocument) : null,
          needing: needingOf(mergeLedgers(states)),
        },
        all,
      };
    } catch (error) {
      this.#settings.log.error({ err: error }, '/events could not be answered');
    } finally {
      this.#isAsking = false;
    }
  }

  close(): void {
    this.#feed.close();
  }
}

const NOBODY = refusal(503, 'no worker serves clients');

async function orBadRequest(
  handle: AdminRoute['handle'],
  request: AdminRequest,
): Promise<AdminAnswer | AdminStream> {
  try {
    return await handle(request);
  } catch (error) {
    if (error instanceof BadRequest) return refusal(400, error.message);
    throw error;
  }
}
