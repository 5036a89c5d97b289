{{- define "stream-scorer.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 52 characters: a StatefulSet's pods add an ordinal, and the label of their revision 11 more.
A release's name may have dots, which the name of a service may not. */}}
{{- define "stream-scorer.fullname" -}}
{{- $name := include "stream-scorer.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | replace "." "-" | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | replace "." "-" | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "stream-scorer.selectorLabels" -}}
app.kubernetes.io/name: {{ include "stream-scorer.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "stream-scorer.labels" -}}
{{ include "stream-scorer.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: stream-scorer
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "stream-scorer.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "stream-scorer.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Of a dictionary with repository, tag and digest, and the tag to take where neither is set. */}}
{{- define "stream-scorer.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (default .tag .image.tag) -}}
{{- end -}}
{{- end -}}

{{/* What the schema can't say, each with its remedy. */}}
{{- define "stream-scorer.checked" -}}
{{- $v := .Values -}}
{{- if not $v.config -}}
{{- fail "config: (not set): give the config file, such as --set-file config=stream_scorer.toml" -}}
{{- end -}}
{{- if not $v.kafka.bootstrapServers -}}
{{- fail "kafka.bootstrapServers: (not set): give the brokers to ask first, such as kafka-1:9092,kafka-2:9092" -}}
{{- end -}}
{{- if not $v.redis.url -}}
{{- fail "redis.url: (not set): give the address of Redis, such as redis://redis:6379/0" -}}
{{- end -}}
{{- if regexMatch "://[^/@]*:[^/@]*@" $v.redis.url -}}
{{- fail "redis.url: it has a password: take it out, keep it in a Secret, and name that in secretFiles with the setting redis.password_file" -}}
{{- end -}}
{{- if regexMatch "://[^/@]*:[^/@]*@" $v.schemaRegistry.url -}}
{{- fail "schemaRegistry.url: it has a password: take it out, keep it in a Secret, and name that in secretFiles with the setting schema_registry.password_file" -}}
{{- end -}}
{{- if eq $v.model.source "" -}}
{{- fail "model.source: (not set): say where the model comes from, persistentVolumeClaim, image or volume" -}}
{{- end -}}
{{- if and (eq $v.model.source "persistentVolumeClaim") (not $v.model.persistentVolumeClaim.claimName) -}}
{{- fail "model.persistentVolumeClaim.claimName: (not set): name the claim that holds the model" -}}
{{- end -}}
{{- if and (eq $v.model.source "image") (not $v.model.image.repository) -}}
{{- fail "model.image.repository: (not set): name the image that holds the model" -}}
{{- end -}}
{{- if and (eq $v.model.source "image") (not (or $v.model.image.tag $v.model.image.digest)) -}}
{{- fail "model.image.tag: (not set): give the tag or the digest of the model's image" -}}
{{- end -}}
{{- if and (eq $v.model.source "volume") (not $v.model.volume) -}}
{{- fail "model.volume: (not set): give a volume as in a pod, such as {nfs: {server: nfs, path: /models}}" -}}
{{- end -}}
{{- if regexMatch "[?&]password=" $v.redis.url -}}
{{- fail "redis.url: it has a password: take it out, keep it in a Secret, and name that in secretFiles with the setting redis.password_file" -}}
{{- end -}}
{{- if not (regexMatch "^[a-z]" (include "stream-scorer.fullname" .)) -}}
{{- fail (printf "fullnameOverride: (not set): the name of a service begins with a letter, and %s does not: give one that does" (include "stream-scorer.fullname" .)) -}}
{{- end -}}
{{- $mounted := dict -}}
{{- range $v.secretFiles -}}
{{- if hasKey $mounted .setting -}}
{{- fail (printf "secretFiles: %s: it is there twice: keep one of the two" .setting) -}}
{{- end -}}
{{- $_ := set $mounted .setting true -}}
{{- end -}}
{{- if hasKey $v.configFiles "stream_scorer.toml" -}}
{{- fail "configFiles: stream_scorer.toml: that is the config itself: give it as config" -}}
{{- end -}}
{{- $marks := merge (include "stream-scorer.selectorLabels" . | fromYaml) (dict "app.kubernetes.io/component" "" "app.kubernetes.io/version" "" "app.kubernetes.io/part-of" "" "app.kubernetes.io/managed-by" "" "helm.sh/chart" "") -}}
{{- range $values := list "commonLabels" "podLabels" -}}
{{- range $label, $text := get $v $values -}}
{{- if hasKey $marks $label -}}
{{- fail (printf "%s: %s: the chart sets this label itself: leave it out" $values $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $owned := dict "kafka.client_id" "leave it: it is the pod's name" "kafka.group_instance_id" "leave it: it is the pod's name" "kafka.bootstrap_servers" "set kafka.bootstrapServers" "kafka.group_id" "set kafka.groupId" "kafka.input_topic" "set kafka.inputTopic" "kafka.input_partitions" "set kafka.inputPartitions" "redis.url" "set redis.url of the values" "schema_registry.url" "set schemaRegistry.url" "model.path" "set model.path of the values" "telemetry.host" "leave it: probes and Prometheus need 0.0.0.0" "telemetry.port" "set telemetry.port of the values" "telemetry.log_level" "set telemetry.logLevel" "telemetry.log_format" "set telemetry.logFormat" -}}
{{- range $name, $value := $v.settings -}}
{{- with get $owned $name -}}
{{- fail (printf "settings.%s: the chart sets it; %s" $name .) -}}
{{- end -}}
{{- if regexMatch "(password|secret|token)$" $name -}}
{{- fail (printf "settings.%s: (secret): a secret is no setting; keep it in a Secret and name that in secretFiles with the setting %s_file" $name $name) -}}
{{- end -}}
{{- end -}}
{{- $partitions := int $v.kafka.inputPartitions -}}
{{- if $v.autoscaling.enabled -}}
{{- range $name := list "groupId" "inputTopic" "inputPartitions" -}}
{{- if not (get $v.kafka $name) -}}
{{- fail (printf "kafka.%s: (not set): autoscaling needs it; take it from the config" $name) -}}
{{- end -}}
{{- end -}}
{{- range $name := list "minReplicas" "maxReplicas" -}}
{{- if gt (int (get $v.autoscaling $name)) $partitions -}}
{{- fail (printf "autoscaling.%s: %d: is more than kafka.inputPartitions, %d; a member without a partition has nothing to do" $name (int (get $v.autoscaling $name)) $partitions) -}}
{{- end -}}
{{- end -}}
{{- $most := int (default $v.kafka.inputPartitions $v.autoscaling.maxReplicas) -}}
{{- range $name := list "minReplicas" "fallbackReplicas" -}}
{{- if gt (int (get $v.autoscaling $name)) $most -}}
{{- fail (printf "autoscaling.%s: %d: is more than autoscaling.maxReplicas, %d" $name (int (get $v.autoscaling $name)) $most) -}}
{{- end -}}
{{- end -}}
{{- else if and $partitions (gt (int $v.replicaCount) $partitions) -}}
{{- fail (printf "replicaCount: %d: is more than kafka.inputPartitions, %d; a member without a partition has nothing to do" (int $v.replicaCount) $partitions) -}}
{{- end -}}
{{- end -}}

{{/* Settings as environment variables, for every container of the scorer. */}}
{{- define "stream-scorer.environment" -}}
{{- $v := .Values -}}
- name: STREAM_SCORER_CONFIG
  value: /etc/stream-scorer/stream_scorer.toml
- name: STREAM_SCORER__KAFKA__BOOTSTRAP_SERVERS
  value: {{ $v.kafka.bootstrapServers | quote }}
{{- with $v.kafka.groupId }}
- name: STREAM_SCORER__KAFKA__GROUP_ID
  value: {{ . | quote }}
{{- end }}
{{- with $v.kafka.inputTopic }}
- name: STREAM_SCORER__KAFKA__INPUT_TOPIC
  value: {{ . | quote }}
{{- end }}
{{- with $v.kafka.inputPartitions }}
- name: STREAM_SCORER__KAFKA__INPUT_PARTITIONS
  value: {{ int . | quote }}
{{- end }}
- name: STREAM_SCORER__REDIS__URL
  value: {{ $v.redis.url | quote }}
{{- with $v.schemaRegistry.url }}
- name: STREAM_SCORER__SCHEMA_REGISTRY__URL
  value: {{ . | quote }}
{{- end }}
- name: STREAM_SCORER__MODEL__PATH
  value: {{ include "stream-scorer.modelPath" . | quote }}
- name: STREAM_SCORER__TELEMETRY__LOG_LEVEL
  value: {{ $v.telemetry.logLevel | quote }}
- name: STREAM_SCORER__TELEMETRY__LOG_FORMAT
  value: {{ $v.telemetry.logFormat | quote }}
{{- range $name, $value := $v.settings }}
- name: {{ include "stream-scorer.variable" $name }}
  value: {{ ternary $value (toJson $value) (kindIs "string" $value) | quote }}
{{- end }}
{{- range $v.secretFiles }}
- name: {{ include "stream-scorer.variable" .setting }}
  value: {{ printf "/run/secrets/stream-scorer/%s" .setting | quote }}
{{- end }}
{{- with $v.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "stream-scorer.variable" -}}
{{- printf "STREAM_SCORER__%s" (. | upper | replace "." "__") -}}
{{- end -}}

{{- define "stream-scorer.modelPath" -}}
{{- printf "/var/lib/stream-scorer/models/%s" .Values.model.path | trimSuffix "/" -}}
{{- end -}}

{{/* The files that every container reads: `configMap` is the name of the map with the config. */}}
{{- define "stream-scorer.fileVolumes" -}}
- name: config
  configMap:
    name: {{ .configMap }}
{{- with .root.Values.secretFiles }}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- range . }}
      - secret:
          name: {{ .secretName }}
          items:
            - key: {{ .key }}
              path: {{ .setting }}
      {{- end }}
{{- end }}
- name: temporary-files
  emptyDir:
    sizeLimit: {{ .root.Values.temporaryFiles.sizeLimit }}
{{- with .root.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "stream-scorer.fileMounts" -}}
- name: config
  mountPath: /etc/stream-scorer
  readOnly: true
{{- if .Values.secretFiles }}
- name: secrets
  mountPath: /run/secrets/stream-scorer
  readOnly: true
{{- end }}
- name: temporary-files
  mountPath: /tmp
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "stream-scorer.modelVolume" -}}
- name: models
{{- if eq .Values.model.source "persistentVolumeClaim" }}
  persistentVolumeClaim:
    claimName: {{ .Values.model.persistentVolumeClaim.claimName }}
    readOnly: true
{{- else if eq .Values.model.source "image" }}
  emptyDir:
    sizeLimit: {{ .Values.model.image.sizeLimit }}
{{- else }}
{{ toYaml .Values.model.volume | indent 2 }}
{{- end }}
{{- end -}}

{{- define "stream-scorer.modelMount" -}}
- name: models
  mountPath: /var/lib/stream-scorer/models
  readOnly: true
{{- end -}}

{{/* Copies the model out of its image, once for each start of a pod. */}}
{{- define "stream-scorer.modelContainer" -}}
{{- if eq .Values.model.source "image" }}
- name: model
  image: {{ include "stream-scorer.image" (dict "image" .Values.model.image "tag" "") | quote }}
  imagePullPolicy: {{ .Values.model.image.pullPolicy }}
  command: [cp, -R, {{ printf "%s/." (trimSuffix "/" .Values.model.image.folder) | quote }}, /var/lib/stream-scorer/models/]
  securityContext:
    {{- toYaml .Values.securityContext | nindent 4 }}
  resources:
    {{- toYaml .Values.topics.resources | nindent 4 }}
  volumeMounts:
    - name: models
      mountPath: /var/lib/stream-scorer/models
{{- end }}
{{- end -}}

{{/* What all pods have in common beside their containers and volumes. */}}
{{- define "stream-scorer.podSpec" -}}
serviceAccountName: {{ .serviceAccountName }}
automountServiceAccountToken: false
# A variable for each service of the namespace would be of no use.
enableServiceLinks: false
securityContext:
  {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "stream-scorer.configData" -}}
data:
  stream_scorer.toml: |2
    {{- .Values.config | nindent 4 }}
  {{- range $name, $text := .Values.configFiles }}
  {{ $name }}: |2
    {{- $text | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* What the alerts are told of how Prometheus knows the members. The chart's own monitor gives them the
name of the service as their job, and the alert that misses all members then means those of this release. */}}
{{- define "stream-scorer.ruleMarks" -}}
{{- $own := and .Values.serviceMonitor.enabled (not .Values.prometheusRule.job) -}}
{{- $name := include "stream-scorer.fullname" . -}}
job: {{ default (ternary $name ".*stream-scorer.*" $own) .Values.prometheusRule.job | quote }}
group: {{ ternary (printf "{namespace=%q, job=%q}" .Release.Namespace $name) "" $own | quote }}
runbook: {{ .Values.prometheusRule.runbook | quote }}
{{- end -}}
