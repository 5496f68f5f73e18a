// The chart's templates, made from the files of the kustomize base and its components: those are the truth, and what a
// value may change is put in here. The webhook's Deployment has one written by hand, since values change most of it.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { INSTALL } from '../../common/contract.ts';
import { HOME } from './processes.ts';

/** A text to be found, what comes in its place, and how often it has to be there; at least once where it is not said. */
type Edit = readonly [find: string | RegExp, replacement: string, times?: number];

interface Source {
  /** Below manifests/. */
  readonly files: readonly string[];
  /** The template is empty unless this holds. */
  readonly condition?: string;
  readonly edits?: readonly Edit[];
}

const NAMESPACE = '{{ .Release.Namespace }}';
const labelsBy = (helper: string): string =>
  `  labels:\n    {{- include "quorumbridge.${helper}" . | nindent 4 }}\n`;
const LABELS = labelsBy('labels');
const RECONCILER_LABELS = labelsBy('reconcilerLabels');
const PROXY_LABELS =
  '  labels:\n    app.kubernetes.io/name: quorumbridge-proxy\n    app.kubernetes.io/part-of: quorumbridge\n';
const CLUSTER_WIDE = /^kind: (?:ClusterRole|ClusterRoleBinding|\w+WebhookConfiguration)$/m;

const webhookEdits = (entries: number): Edit[] => [
  [`namespace: ${INSTALL.namespace}`, `namespace: ${NAMESPACE}`, entries],
  [`- ${INSTALL.namespace}`, `- ${NAMESPACE}`, entries],
  ['timeoutSeconds: 5\n', 'timeoutSeconds: {{ .Values.webhooks.timeoutSeconds }}\n', entries],
  [
    '        port: 443\n',
    '        port: 443\n      {{- include "quorumbridge.caBundle" . | nindent 6 }}\n',
    entries,
  ],
  [LABELS, `${LABELS}  {{- include "quorumbridge.configurationAnnotations" . | nindent 2 }}\n`, 1],
];

/** The value that may weaken an entry's failurePolicy. */
const failurePolicy = (webhook: string, value: string): Edit => [
  new RegExp(
    `(- name: ${webhook.replaceAll('.', String.raw`\.`)}\n(?:(?!  - name)[^\n]*\n)*?    failurePolicy: )Fail\n`,
  ),
  `$1{{ .Values.webhooks.failurePolicy.${value} }}\n`,
  1,
];

/** The API server's ports of a NetworkPolicy. */
const API_SERVER_PORTS: Edit = [
  '        - port: 443\n          protocol: TCP\n        - port: 6443\n          protocol: TCP\n',
  [
    '        {{- range .Values.networkPolicy.apiServerPorts }}',
    '        - port: {{ . }}',
    '          protocol: TCP',
    '        {{- end }}\n',
  ].join('\n'),
  1,
];

/** What a ServiceMonitor or PodMonitor and a PrometheusRule get, which have these labels. */
const monitoringEdits = (labels: string): Edit[] => [
  // Prometheus has templates of its own, which Helm has to leave as they are.
  [/\{\{ ([$].*?) \}\}/g, '{{`{{ $1 }}`}}'],
  [
    labels,
    `${labels}    {{- with .Values.monitoring.labels }}\n    {{- toYaml . | nindent 4 }}\n    {{- end }}\n`,
    2,
  ],
  ['interval: 30s\n', 'interval: {{ .Values.monitoring.interval }}\n', 1],
];

/** A value that may be absent, in the pod's spec of a Deployment. */
const optional = (value: string): string =>
  [
    `      {{- with .Values.${value} }}`,
    `      ${value}:`,
    '        {{- toYaml . | nindent 8 }}',
    '      {{- end }}\n',
  ].join('\n');

/** One text where the value `spread` is "required", and the other one where it isn't. */
const bySpread = (required: string, preferred: string): string =>
  `{{- if eq .Values.spread "required" }}\n${required}{{- else }}\n${preferred}{{- end }}\n`;

const AFFINITY = /( {10})preferredDuringScheduling(?:[^\n]*\n {10} )*[^\n]*\n(?= {6}\S| {6}#)/;

const reconcilerEdits: Edit[] = [
  [`namespace: ${INSTALL.namespace}`, `namespace: ${NAMESPACE}`, 2],
  ['replicas: 2\n', 'replicas: {{ .Values.reconciler.replicas }}\n', 1],
  [
    '      maxSurge: 1\n      maxUnavailable: 0\n',
    `      ${bySpread('      maxSurge: 0\n      maxUnavailable: 1\n      ', '      maxSurge: 1\n      maxUnavailable: 0\n      ')}`,
    1,
  ],
  [
    '      nodeSelector:\n        kubernetes.io/os: linux\n',
    ['imagePullSecrets', 'nodeSelector', 'tolerations'].map(optional).join(''),
    1,
  ],
  [
    AFFINITY,
    `          ${bySpread(
      [
        '          requiredDuringSchedulingIgnoredDuringExecution:',
        '            - topologyKey: kubernetes.io/hostname',
        '              labelSelector:',
        '                matchLabels:',
        `                  app.kubernetes.io/name: ${INSTALL.reconciler}`,
        '          ',
      ].join('\n'),
      '$&          ',
    )}`,
    1,
  ],
  [
    /image: quorumbridge\/control:\S+\n/,
    'image: "{{ .Values.image.repository }}:{{ .Values.image.tag }}"\n',
    1,
  ],
  ['imagePullPolicy: IfNotPresent\n', 'imagePullPolicy: {{ .Values.image.pullPolicy }}\n', 1],
  [
    `            - --lease=$(POD_NAMESPACE)/${INSTALL.reconciler}\n`,
    [
      `            - --lease=$(POD_NAMESPACE)/${INSTALL.reconciler}`,
      '            {{- with .Values.reconciler.extraArgs }}',
      '            {{- toYaml . | nindent 12 }}',
      '            {{- end }}\n',
    ].join('\n'),
    1,
  ],
  ['value: info\n', 'value: {{ .Values.logLevel }}\n', 1],
  [
    /          resources:\n(?: {12}.*\n)+/,
    '          resources:\n            {{- toYaml .Values.reconciler.resources | nindent 12 }}\n',
    1,
  ],
];

/** The Secret with the connection for upgrade events, where a value names one. */
const eventsEdits: Edit[] = [
  [
    '                  fieldPath: metadata.namespace\n',
    [
      '                  fieldPath: metadata.namespace',
      '            {{- if .Values.reconciler.events.secretName }}',
      '            - name: QUORUMBRIDGE_EVENTS_CONFIG',
      '              value: /etc/quorumbridge/events/messaging.yaml',
      '            {{- end }}\n',
    ].join('\n'),
    1,
  ],
  [
    '          terminationMessagePolicy: FallbackToLogsOnError\n',
    [
      '          terminationMessagePolicy: FallbackToLogsOnError',
      '          {{- with .Values.reconciler.events.secretName }}',
      '          volumeMounts:',
      '            - name: events',
      '              mountPath: /etc/quorumbridge/events',
      '              readOnly: true',
      '      volumes:',
      '        - name: events',
      '          secret:',
      '            secretName: {{ . }}',
      '          {{- end }}\n',
    ].join('\n'),
    1,
  ],
];

/** The way to their broker, and to its name. */
const EVENTS_PORTS: Edit = [
  '        - port: 15695\n          protocol: TCP\n',
  [
    '        - port: 15695',
    '          protocol: TCP',
    '    {{- if .Values.reconciler.events.secretName }}',
    '    # The broker for upgrade events, and its name.',
    '    - ports:',
    '        - port: 53',
    '          protocol: UDP',
    '        - port: 53',
    '          protocol: TCP',
    '        {{- range .Values.reconciler.events.ports }}',
    '        - port: {{ . }}',
    '          protocol: TCP',
    '        {{- end }}',
    '    {{- end }}\n',
  ].join('\n'),
  1,
];

const TEMPLATES: Readonly<Record<string, Source>> = {
  'service.yaml': { files: ['base/service.yaml'] },
  'rbac.yaml': {
    files: ['base/rbac.yaml'],
    edits: [[`namespace: ${INSTALL.namespace}`, `namespace: ${NAMESPACE}`, 1]],
  },
  'native-sidecars.yaml': {
    files: ['base/native-sidecars.yaml'],
    condition: '.Values.nativeSidecars.enabled',
    edits: [[`namespace: ${INSTALL.namespace}`, `namespace: ${NAMESPACE}`, 1]],
  },
  'pod-disruption-budget.yaml': {
    files: ['base/pod-disruption-budget.yaml'],
    edits: [['minAvailable: 1\n', 'minAvailable: {{ sub .Values.replicas 1 }}\n', 1]],
  },
  'network-policy.yaml': {
    files: ['base/network-policy.yaml'],
    condition: '.Values.networkPolicy.enabled',
    edits: [API_SERVER_PORTS],
  },
  'mutating-webhooks.yaml': {
    files: ['base/mutating-webhooks.yaml'],
    edits: [
      ...webhookEdits(3),
      failurePolicy(INSTALL.webhook.cluster, 'rabbitmqcluster'),
      failurePolicy(INSTALL.webhook.rabbitMq, 'rabbitmq'),
    ],
  },
  'validating-webhooks.yaml': {
    files: ['base/validating-webhooks.yaml'],
    edits: [...webhookEdits(1), failurePolicy(INSTALL.webhook.rabbitMq, 'rabbitmq')],
  },
  'self-signed.yaml': {
    files: ['components/self-signed/rbac.yaml'],
    condition: 'eq .Values.certificates.mode "self-signed"',
    edits: [[`namespace: ${INSTALL.namespace}`, `namespace: ${NAMESPACE}`, 2]],
  },
  'cert-manager.yaml': {
    files: ['components/cert-manager/certificates.yaml'],
    condition: 'eq .Values.certificates.mode "cert-manager"',
    edits: [[`${INSTALL.name}.${INSTALL.namespace}`, `${INSTALL.name}.${NAMESPACE}`, 3]],
  },
  'monitoring.yaml': {
    files: ['components/monitoring/service-monitor.yaml', 'components/monitoring/prometheus-rule.yaml'],
    condition: '.Values.monitoring.enabled',
    edits: monitoringEdits(LABELS),
  },
  'reconciler.yaml': {
    files: ['rbac', 'deployment', 'service', 'pod-disruption-budget'].map(
      (name) => `base/reconciler/${name}.yaml`,
    ),
    condition: '.Values.reconciler.enabled',
    edits: [...reconcilerEdits, ...eventsEdits],
  },
  'reconciler-network-policy.yaml': {
    files: ['base/reconciler/network-policy.yaml'],
    condition: 'and .Values.reconciler.enabled .Values.networkPolicy.enabled',
    edits: [API_SERVER_PORTS, EVENTS_PORTS],
  },
  'reconciler-monitoring.yaml': {
    files: ['components/monitoring/reconciler.yaml'],
    condition: 'and .Values.reconciler.enabled .Values.monitoring.enabled',
    edits: monitoringEdits(RECONCILER_LABELS),
  },
  'proxy-monitoring.yaml': {
    files: ['components/monitoring/proxy.yaml'],
    condition: 'and .Values.monitoring.enabled .Values.monitoring.proxies',
    edits: monitoringEdits(PROXY_LABELS),
  },
};

function applied(text: string, [find, replacement, times]: Edit): string {
  const parts = typeof find === 'string' ? text.split(find) : undefined;
  const found = parts === undefined ? [...text.matchAll(new RegExp(find, 'g'))].length : parts.length - 1;
  if (times === undefined ? found === 0 : found !== times)
    throw new Error(
      `expected ${times ?? 'some'} times, not ${found}, for the chart: ${JSON.stringify(String(find))}`,
    );
  return parts === undefined ? text.replaceAll(new RegExp(find, 'g'), replacement) : parts.join(replacement);
}

/** One object: its labels by the helper of its program, and the release's namespace where it belongs to one. */
function placed(document: string): string {
  const labelled = document.replace(/^ {2}labels:\n(?: {4}.*\n)+/m, (labels) => {
    if (labels === PROXY_LABELS) return labels;
    return labels.includes(INSTALL.reconciler) ? RECONCILER_LABELS : LABELS;
  });
  if (CLUSTER_WIDE.test(labelled)) return labelled;
  return labelled.replace(/^metadata:\n {2}name: .*\n/m, (start) => `${start}  namespace: ${NAMESPACE}\n`);
}

/** The generated templates of the chart: their texts by file name. Throws Error when a source no longer has what is edited. */
export function chartTemplates(): Map<string, string> {
  const made = new Map<string, string>();
  for (const [name, { files, condition, edits = [] }] of Object.entries(TEMPLATES)) {
    const documents = files.flatMap((file) =>
      readFileSync(join(HOME, 'manifests', file), 'utf8').split(/^---\n/m),
    );
    const text = edits.reduce(applied, documents.map(placed).join('---\n'));
    const head = `# Made by \`npm run manifests\` from ${files.map((file) => `manifests/${file}`).join(' and ')}.\n`;
    const body = condition === undefined ? text : `{{- if ${condition} }}\n${text}{{- end }}\n`;
    made.set(name, head + body);
  }
  return made;
}
