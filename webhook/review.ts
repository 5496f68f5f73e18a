// Reads AdmissionReviews of admission.k8s.io/v1 as an API server sends them (k8s.io/api/admission/v1 types.go).
import { Type } from 'typebox';
import { Compile } from 'typebox/schema';
import { isDeeperThan } from './body.ts';
import { RequestError } from './errors.ts';
import { isObject, textAt, valueAt } from '../common/kube/json.ts';
import { fieldName } from './refusal.ts';
import { CLUSTER, RABBITMQ, type Resource, STATEFUL_SET, apiVersionOf } from '../common/kube/resources.ts';
import type { Json, JsonObject, KubeObject } from '../common/kube/types.ts';

const API_VERSION = 'admission.k8s.io/v1';

/** Real objects stay under 30 levels (managedFields included); the injection's recursion is safe far above this. */
const MAX_OBJECT_DEPTH = 256;

/** Where reviews are sent to. */
export type Endpoint = keyof typeof HANDLED;

/** Kinds that each endpoint decides about. */
const HANDLED = {
  mutate: [CLUSTER, STATEFUL_SET, RABBITMQ],
  validate: [RABBITMQ, CLUSTER],
} as const satisfies Record<string, readonly Resource[]>;

/** Every kind that has admissions. */
export const KINDS: readonly string[] = HANDLED.mutate.map(({ kind }) => kind);

const OPERATIONS = ['CREATE', 'UPDATE', 'DELETE', 'CONNECT'] as const;
export type ReviewOperation = (typeof OPERATIONS)[number];

const Text = Type.Optional(Type.Unsafe<string | null>({ type: ['string', 'null'] }));

const Metadata = Type.Object({
  name: Text,
  namespace: Text,
  generateName: Text,
  annotations: Type.Optional(
    Type.Unsafe<Record<string, string> | null>({
      type: ['object', 'null'],
      additionalProperties: { type: 'string' },
    }),
  ),
  ownerReferences: Type.Optional(
    Type.Unsafe<object[] | null>({
      type: ['array', 'null'],
      items: {
        type: 'object',
        required: ['apiVersion', 'kind', 'name', 'uid'],
        properties: {
          apiVersion: { type: 'string' },
          kind: { type: 'string' },
          name: { type: 'string' },
          uid: { type: 'string' },
        },
      },
    }),
  ),
});

const Nullable = Type.Optional(
  Type.Unsafe<KubeObject | null>({
    type: ['object', 'null'],
    required: ['apiVersion', 'kind', 'metadata'],
    properties: { apiVersion: { type: 'string' }, kind: { type: 'string' }, metadata: Metadata },
  }),
);

const Identity = Type.Object({ uid: Type.String({ minLength: 1, maxLength: 256 }) });

const Request = Type.Object({
  kind: Type.Object({ group: Type.String(), version: Type.String(), kind: Type.String() }),
  operation: Type.Unsafe<ReviewOperation>({ type: 'string', enum: [...OPERATIONS] }),
  name: Text,
  namespace: Text,
  subResource: Text,
  dryRun: Type.Optional(Type.Unsafe<boolean | null>({ type: ['boolean', 'null'] })),
  object: Nullable,
  oldObject: Nullable,
});

const identity = Compile(Identity);
const content = Compile(Request);

/** What of a request goes into logs and metrics. */
export interface ReviewSubject {
  uid: string;
  operation: ReviewOperation | 'unknown';
  kind: string;
  namespace: string | undefined;
  name: string | undefined;
  dryRun: boolean;
}

/** A validated review: either one to let pass untouched, or one refused at sight, or one to decide about. */
export type Review =
  | { todo: 'pass'; subject: ReviewSubject; reason: 'deleting' | 'subresource' }
  | { todo: 'deny'; subject: ReviewSubject; reason: 'nested-too-deeply'; code: number; message: string }
  | { todo: 'decide'; subject: ReviewSubject; object: KubeObject; oldObject: KubeObject | undefined };

/** Names a value in an error without repeating more of it than helps. */
function show(value: Json | undefined): string {
  if (value === undefined) return 'nothing';
  if (Array.isArray(value)) return 'an array';
  if (typeof value === 'object' && value !== null) return 'an object';
  const text = JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

interface SchemaError {
  instancePath: string;
  message: string;
  params: object;
}

/** Throws InvalidReview for the first violation of the schema, by the field's path. */
function check(validator: { Errors(value: unknown): [boolean, SchemaError[]] }, request: JsonObject): void {
  const [valid, [first]] = validator.Errors(request);
  if (valid || first === undefined) return;
  const path = first.instancePath
    .split('/')
    .slice(1)
    .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'))
    .map((step) => (/^\d+$/.test(step) ? Number(step) : step));
  const allowed = 'allowedValues' in first.params ? ` (${String(first.params.allowedValues)})` : '';
  const got = first.message.startsWith('must have') ? '' : `; it is ${show(valueAt(request, ...path))}`;
  throw new RequestError(
    'InvalidReview',
    `${fieldName(['request', ...path])} ${first.message}${allowed}${got}`,
  );
}

/** True when the object is only waiting for its finalizers (a deletionTimestamp of any non-null value). */
function isBeingDeleted(request: JsonObject): boolean {
  return (valueAt(request, 'object', 'metadata', 'deletionTimestamp') ?? null) !== null;
}

function readSubject(uid: string, request: JsonObject): ReviewSubject {
  const read = (...path: string[]): string | undefined => textAt(request, ...path) || undefined;
  return {
    uid,
    operation: OPERATIONS.find((operation) => operation === request['operation']) ?? 'unknown',
    kind: read('kind', 'kind') ?? 'unknown',
    namespace: read('namespace') ?? read('object', 'metadata', 'namespace'),
    // A name of metadata.generateName is made after admission.
    name: read('name') ?? read('object', 'metadata', 'name'),
    dryRun: request['dryRun'] === true,
  };
}

/**
 * Validates a parsed body. Deletions are recognised before anything that could be wrong with them: refusing one would
 * hang finalizers and namespaces. Throws RequestError for what no uid can answer or no API server sends.
 */
export function readReview(body: Json | undefined, endpoint: Endpoint = 'mutate'): Review {
  if (!isObject(body) || body['kind'] !== 'AdmissionReview') {
    const kind = isObject(body) ? `its kind is ${show(body['kind'])}` : `it is ${show(body)}`;
    throw new RequestError(
      'NotAnAdmissionReview',
      `the body must be an AdmissionReview of ${API_VERSION}; ${kind}`,
    );
  }
  if (body['apiVersion'] !== API_VERSION) {
    throw new RequestError(
      'UnsupportedReviewVersion',
      `apiVersion must be ${API_VERSION}; it is ${show(body['apiVersion'])}: set admissionReviewVersions: [v1]`,
    );
  }
  const { request } = body;
  if (!isObject(request))
    throw new RequestError('InvalidReview', `request must be object; it is ${show(request)}`);
  check(identity, request);
  const subject = readSubject(textAt(request, 'uid') ?? '', request);
  if (subject.operation === 'DELETE' || isBeingDeleted(request))
    return { todo: 'pass', subject, reason: 'deleting' };
  check(content, request);
  const { kind, subResource, object, oldObject } = request as Type.Static<typeof Request>;
  if (subject.operation === 'CONNECT' || subResource) return { todo: 'pass', subject, reason: 'subresource' };
  const apiVersion = kind.group === '' ? kind.version : `${kind.group}/${kind.version}`;
  const handled = HANDLED[endpoint].map((each) => `${apiVersionOf(each)} ${each.kind}`);
  if (!handled.includes(`${apiVersion} ${kind.kind}`)) {
    throw new RequestError(
      'UnknownKind',
      `request.kind is ${show(`${apiVersion} ${kind.kind}`)}; /${endpoint} handles ${handled.join(', ')}: ` +
        'remove others from the rules of its registration',
    );
  }
  for (const [field, value] of Object.entries({ object, oldObject })) {
    const [foundVersion, foundKind] = [textAt(value ?? {}, 'apiVersion'), textAt(value ?? {}, 'kind')];
    if (value && (foundKind !== kind.kind || foundVersion !== apiVersion)) {
      const got = show(`${foundVersion} ${foundKind}`);
      throw new RequestError(
        'InvalidReview',
        `request.${field} must be a ${apiVersion} ${kind.kind}; it is ${got}`,
      );
    }
  }
  if (!object) {
    throw new RequestError(
      'InvalidReview',
      `request.object must be object on ${subject.operation}; it is missing`,
    );
  }
  if (isDeeperThan([object, oldObject], MAX_OBJECT_DEPTH + 1)) {
    const message = `the object nests more than ${MAX_OBJECT_DEPTH} levels deep, too deep to be patched safely`;
    return { todo: 'deny', subject, reason: 'nested-too-deeply', code: 422, message };
  }
  return { todo: 'decide', subject, object, oldObject: oldObject ?? undefined };
}
