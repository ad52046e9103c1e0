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

{{/* Labels that never change between releases: the selectors are immutable. */}}
{{- define "tundish.selector" -}}
app.kubernetes.io/name: {{ include "tundish.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "tundish.labels" -}}
{{ include "tundish.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
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

{{/* The Secrets with certificates for HTTPS, the default one first. */}}
{{- define "tundish.certificates" -}}
{{- without (prepend .Values.proxy.tls.secretNames .Values.proxy.tls.secretName) "" | uniq | toJson -}}
{{- end -}}

{{- define "tundish.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "tundish.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* What a pod template takes from the values of its part. */}}
{{- define "tundish.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- define "tundish.spread" -}}
topologySpreadConstraints:
{{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
- maxSkew: 1
  topologyKey: {{ . }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "tundish.selector" $ | nindent 6 }}
{{- end }}
{{- end -}}

{{/*
The number of replicas, unless it belongs to somebody else: who scaled the Deployment by kubectl or an
autoscaler keeps the number. Where values leave it to one, a Deployment that is there keeps its number until
the autoscaler takes it over: a field that is left out would fall back to 1.
*/}}
{{- define "tundish.replicas" -}}
{{- $live := lookup "apps/v1" "Deployment" .root.Release.Namespace .name -}}
{{- $scaled := false -}}
{{- range dig "metadata" "managedFields" (list) $live -}}
{{- if eq (dig "subresource" "" .) "scale" -}}{{- $scaled = true -}}{{- end -}}
{{- end -}}
{{- $left := or (kindIs "invalid" .part.replicas) (dig "autoscaling" "enabled" false .part) -}}
{{- if $scaled -}}
{{- else if and $left $live }}
  replicas: {{ $live.spec.replicas }}
{{- else if not $left }}
  replicas: {{ .part.replicas }}
{{- end -}}
{{- end -}}

{{- define "tundish.proxyAccountAnnotations" -}}
{{- with .Values.proxy.workloadIdentity }}
{{- if and .enabled .clientID }}
azure.workload.identity/client-id: {{ .clientID | quote }}
{{- end }}
{{- if and .enabled .tenantID }}
azure.workload.identity/tenant-id: {{ .tenantID | quote }}
{{- end }}
{{- end }}
{{- with .Values.proxy.serviceAccount.annotations }}
{{ toYaml . }}
{{- end }}
{{- end -}}
