{{- define "tundish.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "tundish.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "tundish.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "tundish.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "tundish.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace -}}
{{- end -}}

{{/* The name of an object of the cluster: two releases in two namespaces each have theirs. */}}
{{- define "tundish.clusterName" -}}
{{- printf "%s-%s" (include "tundish.namespace" .) (include "tundish.fullname" .) -}}
{{- end -}}

{{/* Labels that never change between releases: the selectors are immutable. */}}
{{- define "tundish.selector" -}}
app.kubernetes.io/name: {{ include "tundish.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* The same as one word. */}}
{{- define "tundish.podSelector" -}}
{{- $labels := list -}}
{{- range $key, $value := include "tundish.selector" . | fromYaml -}}
{{- $labels = append $labels (printf "%s=%s" $key $value) -}}
{{- end -}}
{{- join "," $labels -}}
{{- end -}}

{{- define "tundish.labels" -}}
{{ include "tundish.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/*
The metadata of an object: root, component and name; perhaps labels and annotations of its own, a namespace
besides the release's, or cluster for one that is in none.
*/}}
{{- define "tundish.metadata" -}}
name: {{ .name }}
{{- if not .cluster }}
namespace: {{ .namespace | default (include "tundish.namespace" .root) }}
{{- end }}
labels:
  {{- merge (dict) (.labels | default dict) (include "tundish.labels" . | fromYaml) .root.Values.commonLabels | toYaml | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/*
The metadata of the pods: root, component, part, and perhaps labels. No version is in it, so that a new chart
with the same pods restarts none.
*/}}
{{- define "tundish.podMetadata" -}}
labels:
  {{- merge (dict) (include "tundish.selector" . | fromYaml) .part.podLabels (.labels | default dict) .root.Values.commonLabels | toYaml | nindent 2 }}
{{- with .part.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "tundish.image" -}}
{{- $registry := .Values.global.imageRegistry | default .Values.image.registry -}}
{{- $name := printf "%s/%s" $registry .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $name .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "tundish.checkpoint" -}}
{{- printf "%s-quota-checkpoint" (include "tundish.fullname" .) -}}
{{- end -}}

{{- define "tundish.snapshot" -}}
{{- printf "%s-snapshot" (include "tundish.fullname" .) -}}
{{- end -}}

{{- define "tundish.operatorAccount" -}}
{{- .Values.operator.serviceAccount.name | default (printf "%s-operator" (include "tundish.fullname" .)) -}}
{{- end -}}

{{- define "tundish.proxyAccount" -}}
{{- .Values.proxy.serviceAccount.name | default (printf "%s-proxy" (include "tundish.fullname" .)) -}}
{{- end -}}

{{/* The Secret of the default certificate for HTTPS. */}}
{{- define "tundish.certificate" -}}
{{- if .Values.certManager.enabled -}}
{{- .Values.proxy.tls.secretName | default (printf "%s-tls" (include "tundish.fullname" .)) -}}
{{- else -}}
{{- .Values.proxy.tls.secretName -}}
{{- end -}}
{{- end -}}

{{/* The Secrets with certificates for HTTPS, the default one first. */}}
{{- define "tundish.certificates" -}}
{{- without (prepend .Values.proxy.tls.secretNames (include "tundish.certificate" .)) "" | uniq | toJson -}}
{{- end -}}

{{/* The port at which clients reach the proxies. */}}
{{- define "tundish.port" -}}
{{- .Values.proxy.service.port | default (include "tundish.certificates" . | fromJsonArray | empty | ternary 80 443) -}}
{{- end -}}

{{/* What the pods of a part take from its values as it is. */}}
{{- define "tundish.pod" -}}
{{- $root := .root }}
{{- $context := . }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .part }}
{{- with .podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- range $field := list "nodeSelector" "tolerations" "affinity" "hostAliases" "dnsConfig" "initContainers" }}
{{- with index $context.part $field }}
{{ $field }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- range $field := list "priorityClassName" "runtimeClassName" "dnsPolicy" }}
{{- with index $context.part $field }}
{{ $field }}: {{ . }}
{{- end }}
{{- end }}
{{- if kindIs "bool" .hostUsers }}
hostUsers: {{ .hostUsers }}
{{- end }}
{{- with .topologySpreadConstraints }}
topologySpreadConstraints:
{{- $pods := dict "labelSelector" (dict "matchLabels" (include "tundish.selector" $context | fromYaml)) }}
{{- range . }}
- {{ ternary . (merge (dict) . $pods) (hasKey . "labelSelector") | toYaml | nindent 2 | trim }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The probes of a part's container. */}}
{{- define "tundish.probes" -}}
{{- range $probe, $path := dict "startupProbe" "/livez" "livenessProbe" "/livez" "readinessProbe" "/readyz" }}
{{ $probe }}:
  httpGet: {path: {{ $path }}, port: admin}
  {{- with index $.part $probe }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- with .part.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .part.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .part.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* How a Deployment replaces pods. */}}
{{- define "tundish.rollout" -}}
strategy:
  {{- ternary (omit .strategy "rollingUpdate") .strategy (eq .strategy.type "Recreate") | toYaml | nindent 2 }}
minReadySeconds: {{ .minReadySeconds }}
revisionHistoryLimit: {{ .revisionHistoryLimit }}
{{- end -}}

{{/* A PodDisruptionBudget that lets nodes be drained: root, component, part, name. */}}
{{- define "tundish.budget" -}}
{{- $budget := .part.podDisruptionBudget }}
{{- if $budget.enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "tundish.metadata" . | nindent 2 }}
spec:
  {{- if kindIs "invalid" $budget.minAvailable }}
  maxUnavailable: {{ $budget.maxUnavailable }}
  {{- else }}
  {{- $replicas := .part.replicas }}
  {{- if dig "autoscaling" "enabled" false .part }}{{ $replicas = .part.autoscaling.minReplicas }}{{ end }}
  {{- if not (kindIs "invalid" $replicas) }}
  {{- $least := $budget.minAvailable }}
  {{- if kindIs "string" $least }}{{ $least = ceil (divf (mulf $replicas (trimSuffix "%" $least)) 100) }}{{ end }}
  {{- if ge (int $least) (int $replicas) }}
  {{- fail (printf "%s.podDisruptionBudget.minAvailable: %v of %v replicas would block every drain of a node" .component $budget.minAvailable $replicas) }}
  {{- end }}
  {{- end }}
  minAvailable: {{ $budget.minAvailable }}
  {{- end }}
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "tundish.selector" . | nindent 6 }}
{{- end }}
{{- end -}}

{{/*
An object of the operator's that the chart makes empty, since a right to create cannot be limited to a name: root,
kind, name. One that an operator made, before the chart did, stays the operator's.
*/}}
{{- define "tundish.made" -}}
{{- $live := lookup "v1" .kind (include "tundish.namespace" .root) .name -}}
{{- if or (not $live) (dig "metadata" "annotations" "meta.helm.sh/release-name" "" $live) }}
---
apiVersion: v1
kind: {{ .kind }}
metadata:
  {{- include "tundish.metadata" . | nindent 2 }}
{{- if eq .kind "Secret" }}
type: Opaque
{{- end }}
{{- end }}
{{- end -}}

{{/*
The number of replicas, unless it belongs to whoever scaled the Deployment, by kubectl or an autoscaler. Helm 4
applies on the server, where a field that is left out stays with its other owner, and one with another number is a
conflict. Helm 3, and 4 for releases of 3, take a field away that the revision before had: 1 would be left, so the
number that is there is rendered. It is also where values leave the number to an autoscaler that has not scaled yet.
*/}}
{{- define "tundish.replicas" -}}
{{- $live := lookup "apps/v1" "Deployment" (include "tundish.namespace" .root) .name -}}
{{- $scaled := false -}}
{{- $applied := false -}}
{{- range dig "metadata" "managedFields" (list) $live -}}
{{- if eq (dig "subresource" "" .) "scale" -}}{{- $scaled = true -}}{{- end -}}
{{- if and (eq .manager "helm") (eq .operation "Apply") -}}{{- $applied = true -}}{{- end -}}
{{- end -}}
{{- if hasPrefix "v3." .root.Capabilities.HelmVersion.Version -}}{{- $applied = false -}}{{- end -}}
{{- $left := or (kindIs "invalid" .part.replicas) (dig "autoscaling" "enabled" false .part) -}}
{{- if and $scaled $applied -}}
{{- else if and $live (or $scaled $left) }}
  replicas: {{ $live.spec.replicas }}
{{- else if not $left }}
  replicas: {{ .part.replicas }}
{{- end -}}
{{- end -}}

{{- define "tundish.proxyAccountAnnotations" -}}
{{- $annotations := dict }}
{{- with .Values.proxy.workloadIdentity }}
{{- if and .enabled .clientID }}{{ $_ := set $annotations "azure.workload.identity/client-id" .clientID }}{{ end }}
{{- if and .enabled .tenantID }}{{ $_ := set $annotations "azure.workload.identity/tenant-id" .tenantID }}{{ end }}
{{- end }}
{{- merge (dict) .Values.proxy.serviceAccount.annotations $annotations | toYaml -}}
{{- end -}}
