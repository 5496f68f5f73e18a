{{/* The names are fixed: a cluster has one installation, since its webhook configurations are the cluster's. */}}
{{- define "quorumbridge.labels" -}}
app.kubernetes.io/name: quorumbridge-webhook
app.kubernetes.io/part-of: quorumbridge
{{- end }}

{{- define "quorumbridge.selector" -}}
app.kubernetes.io/name: quorumbridge-webhook
{{- end }}

{{- define "quorumbridge.configurationAnnotations" -}}
{{- if eq .Values.certificates.mode "cert-manager" }}
annotations:
  cert-manager.io/inject-ca-from: {{ .Release.Namespace }}/quorumbridge-webhook-cert
{{- end }}
{{- end }}

{{- define "quorumbridge.caBundle" -}}
{{- if eq .Values.certificates.mode "provided" }}
caBundle: {{ required "certificates.caBundle: the CA of certificates.secretName, PEM in base64, is needed" .Values.certificates.caBundle }}
{{- end }}
{{- end }}

{{- define "quorumbridge.reconcilerLabels" -}}
app.kubernetes.io/name: quorumbridge-reconciler
app.kubernetes.io/part-of: quorumbridge
{{- end }}
