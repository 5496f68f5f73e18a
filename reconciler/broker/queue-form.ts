// What becomes of queues and exchanges that 3.x had: what the proxy makes of their declares, so that a client behind the
// proxy, and later one without it, finds what it declares. A test holds both against each other.
import { isObject, textAt } from '../../common/kube/json.ts';
import type { Json, JsonObject } from '../../common/kube/types.ts';
import { type Version, compareVersions } from '../../common/version.ts';

/** `quorum`: every queue a quorum queue · `classic`: classic queues stay classic. */
export type QueueForm = 'quorum' | 'classic';

/** The form for spec.queueType of a RabbitMq: None is for those who want what they had. */
export function queueFormOf(queueType: string | undefined): QueueForm {
  return queueType === 'None' ? 'classic' : 'quorum';
}

/** One field that is not as it was. */
export interface Change {
  /** Such as `durable` or `arguments.x-max-priority`. */
  readonly field: string;
  /** undefined: it was not there. */
  readonly from: Json | undefined;
  /** undefined: it is there no more. */
  readonly to: Json | undefined;
  readonly why: string;
}

/** An object as it is brought back, and how it differs from what was saved. */
export interface Formed {
  readonly object: JsonObject;
  readonly changes: readonly Change[];
}

/** How long a queue that was auto-delete outlives its last use, in milliseconds; as the proxy has it. */
const AUTO_DELETE_EXPIRES = 1_800_000;

/** Arguments that a quorum queue refuses. */
const ILLEGAL_ON_QUORUM = ['x-max-priority', 'x-queue-mode', 'x-queue-version', 'x-queue-master-locator'];

/** Arguments that 4.3 refuses on a classic queue; 4.0 is the last that was seen to take them. */
const ILLEGAL_ON_CLASSIC = ['x-queue-master-locator', 'x-queue-version', 'x-consumer-timeout'];
const LAST_LENIENT: Version = { major: 4, minor: 0, patch: undefined };

/** Arguments of quorum queues that classic queues refuse. */
const QUORUM_ONLY = [
  'x-delivery-limit',
  'x-quorum-initial-group-size',
  'x-max-in-memory-length',
  'x-max-in-memory-bytes',
];

/** Notes each field that is set to another value. */
class Editor {
  readonly object: JsonObject;
  readonly changes: Change[] = [];
  readonly #arguments: JsonObject;

  constructor(object: JsonObject) {
    this.#arguments = isObject(object['arguments']) ? { ...object['arguments'] } : {};
    this.object = { ...object, arguments: this.#arguments };
    // 4.3 writes it beside the argument that says the same.
    delete this.object['type'];
  }

  set(field: 'durable' | 'auto_delete', to: boolean, why: string): void {
    const from = this.object[field];
    if (from === to) return;
    this.object[field] = to;
    this.changes.push({ field, from, to, why });
  }

  argument(key: string): Json | undefined {
    return this.#arguments[key];
  }

  /** @param to undefined takes it out */
  setArgument(key: string, to: Json | undefined, why: string): void {
    const from = this.#arguments[key];
    if (from === to) return;
    if (to === undefined) delete this.#arguments[key];
    else this.#arguments[key] = to;
    this.changes.push({ field: `arguments.${key}`, from, to, why });
  }
}

/** A queue as it is brought back on a broker of that version. Streams, and in the form `classic` quorum queues, stay. */
export function formQueue(queue: JsonObject, form: QueueForm, target: Version): Formed {
  const type = textAt(queue, 'arguments', 'x-queue-type') ?? '';
  const editor = new Editor(queue);
  if (type === '' || type === 'classic' || type === 'quorum') {
    if (form === 'quorum') asQuorum(editor);
    else if (type !== 'quorum') asDurableClassic(editor, target);
  }
  return editor;
}

/** An exchange as it is brought back: a transient one would take the bindings of durable queues along at a restart. */
export function formExchange(exchange: JsonObject): Formed {
  if (exchange['durable'] === true) return { object: exchange, changes: [] };
  const why = 'a transient exchange takes the bindings of durable queues along at a restart';
  const change = { field: 'durable', from: exchange['durable'], to: true, why };
  return { object: { ...exchange, durable: true }, changes: [change] };
}

function asQuorum(editor: Editor): void {
  const wasAutoDelete = editor.object['auto_delete'] === true;
  editor.set('durable', true, 'quorum queues are durable');
  editor.set('auto_delete', false, 'quorum queues cannot be auto-delete');
  for (const key of ILLEGAL_ON_QUORUM) editor.setArgument(key, undefined, 'quorum queues refuse it');
  if (editor.argument('x-overflow') === 'reject-publish-dlx') {
    const why = 'quorum queues take reject-publish-dlx for drop-head and would lose messages';
    editor.setArgument('x-overflow', 'reject-publish', why);
  }
  const why = 'the replicated type that RabbitMQ 4 has in the place of mirrored queues';
  editor.setArgument('x-queue-type', 'quorum', why);
  if (wasAutoDelete && editor.argument('x-expires') === undefined) {
    editor.setArgument('x-expires', AUTO_DELETE_EXPIRES, 'it was auto-delete: it goes when it is not used');
  }
}

function asDurableClassic(editor: Editor, target: Version): void {
  editor.set('durable', true, 'RabbitMQ 4.3 refuses transient queues that are not exclusive');
  const why = 'whatever its virtual host has as its default';
  editor.setArgument('x-queue-type', 'classic', why);
  const refused = compareVersions(target, LAST_LENIENT) > 0 ? ILLEGAL_ON_CLASSIC : [];
  for (const key of [...QUORUM_ONLY, ...refused]) {
    editor.setArgument(key, undefined, 'classic queues refuse it');
  }
}
