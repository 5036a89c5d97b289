{{/* Ports of addresses like host:9092 and redis://host:6379/0, which may be separated by commas, as words;
byDefault: of an address without one, by its scheme. */}}
{{- define "stream-scorer.portsOf" -}}
{{- $byDefault := .byDefault -}}
{{- range splitList "," .addresses -}}
{{- $scheme := regexFind "^[a-z]+://" . -}}
{{- $host := regexFind "^[^/?#]+" (trimPrefix $scheme .) -}}
{{- $port := regexFind ":[0-9]+$" $host | trimPrefix ":" -}}
{{- printf "%s " (default (get $byDefault $scheme) $port) -}}
{{- end -}}
{{- end -}}

{{/* To one server: `rule` is a dictionary with `to`, which may be empty, and `ports`; `more`: ports that are
known from addresses, as words. What members are told to ask they reach. */}}
{{- define "stream-scorer.egressRule" -}}
{{- $ports := list -}}
{{- range concat .rule.ports (splitList " " (default "" .more)) -}}
{{- if . -}}{{- $ports = append $ports (int .) -}}{{- end -}}
{{- end -}}
- ports:
    {{- range uniq $ports }}
    - { protocol: TCP, port: {{ int . }} }
    {{- if $.datagrams }}
    - { protocol: UDP, port: {{ int . }} }
    {{- end }}
    {{- end }}
  {{- with .rule.to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* The policy of the pods of one component. hook: it is needed before the release is there. */}}
{{- define "stream-scorer.networkPolicy" -}}
{{- $values := .root.Values -}}
{{- $policy := $values.networkPolicy -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "stream-scorer.fullname" .root }}-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "stream-scorer.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
  {{- if .hook }}
  annotations:
    helm.sh/hook: pre-install,pre-upgrade
    helm.sh/hook-weight: "-10"
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
  {{- end }}
spec:
  podSelector:
    matchLabels:
      {{- include "stream-scorer.selectorLabels" .root | nindent 6 }}
      app.kubernetes.io/component: {{ .component }}
  policyTypes: [Ingress, Egress]
  {{- if eq .component "topics" }}
  ingress: []
  {{- else if eq .component "web" }}
  ingress:
    {{- with $policy.web.from }}
    - ports:
        - { protocol: TCP, port: {{ int $values.web.port }} }
      from:
        {{- toYaml . | nindent 8 }}
    {{- else }}
    []
    {{- end }}
  {{- else }}
  ingress:
    {{- if or $policy.prometheus.namespaceSelector $policy.prometheus.podSelector }}
    - ports:
        - { protocol: TCP, port: {{ int $values.telemetry.port }} }
      from:
        - {{- with $policy.prometheus.namespaceSelector }}
          namespaceSelector:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          {{- with $policy.prometheus.podSelector }}
          podSelector:
            {{- toYaml . | nindent 12 }}
          {{- end }}
    {{- end }}
    {{- with $policy.extraIngress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  egress:
    {{- include "stream-scorer.egressRule" (dict "rule" $policy.dns "datagrams" true) | nindent 4 }}
    {{- if ne .component "web" }}
    {{- include "stream-scorer.egressRule" (dict "rule" $policy.kafka "more" (include "stream-scorer.portsOf" (dict "addresses" $values.kafka.bootstrapServers "byDefault" dict))) | nindent 4 }}
    {{- end }}
    {{- if ne .component "topics" }}
    {{- include "stream-scorer.egressRule" (dict "rule" $policy.redis "more" (include "stream-scorer.portsOf" (dict "addresses" $values.redis.url "byDefault" (dict "redis://" "6379" "rediss://" "6379")))) | nindent 4 }}
    {{- end }}
    {{- if eq .component "scorer" }}
    {{- if $values.schemaRegistry.url }}
    {{- include "stream-scorer.egressRule" (dict "rule" $policy.schemaRegistry "more" (include "stream-scorer.portsOf" (dict "addresses" $values.schemaRegistry.url "byDefault" (dict "http://" "80" "https://" "443")))) | nindent 4 }}
    {{- end }}
    {{- if $policy.traces.enabled }}
    {{- include "stream-scorer.egressRule" (dict "rule" $policy.traces) | nindent 4 }}
    {{- end }}
    {{- with $policy.extraEgress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- end }}
{{- end -}}
