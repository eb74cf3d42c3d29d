{{- define "mamparo.name" -}}
{{- if contains "mamparo" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-mamparo{{ end }}
{{- end }}

{{- define "mamparo.labels" -}}
app.kubernetes.io/name: mamparo
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "mamparo.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* The container; it is that of deploy/kubernetes, and a test compares them. */}}
{{- define "mamparo.container" -}}
name: mamparo
image: {{ include "mamparo.image" . | quote }}
{{- with .Values.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
args:
  - run
  - --config
  - /etc/mamparo
env:
  - name: MAMPARO_METRICS_ADDRESS
    value: {{ printf "%s:%d" .Values.sidecar.metricsHost (int .Values.sidecar.metricsPort) | quote }}
ports:
  - name: mamparo-metrics
    containerPort: {{ int .Values.sidecar.metricsPort }}
    protocol: TCP
startupProbe:
  httpGet:
    path: /readyz
    port: mamparo-metrics
  periodSeconds: 1
  failureThreshold: 60
readinessProbe:
  httpGet:
    path: /readyz
    port: mamparo-metrics
  periodSeconds: 5
livenessProbe:
  httpGet:
    path: /livez
    port: mamparo-metrics
  periodSeconds: 10
resources:
  {{- toYaml .Values.sidecar.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  capabilities:
    drop:
      - ALL
  readOnlyRootFilesystem: true
  runAsGroup: 65532
  runAsNonRoot: true
  runAsUser: 65532
  seccompProfile:
    type: RuntimeDefault
volumeMounts:
  - name: mamparo
    mountPath: /etc/mamparo
    readOnly: true
{{- end }}

{{/* A value as CEL writes it: objects by the path of their type, maps of anything by their keys. */}}
{{- define "mamparo.cel" -}}
{{- $path := .path }}
{{- if kindIs "map" .value }}
{{- $any := or (hasSuffix ".resources.requests" $path) (hasSuffix ".resources.limits" $path) }}
{{- if not $any }}{{ $path }}{{ end }}{
{{- $value := .value }}
{{- range $index, $key := keys $value | sortAlpha }}
{{- if $index }}, {{ end }}
{{- $item := get $value $key }}
{{- /* CEL takes a map only of values of one type: a quantity may be a number or a text. */}}
{{- if $any }}{{ toJson $key }}: {{ $item | toJson | trimAll "\"" | quote }}{{ else }}{{ $key }}: {{ include "mamparo.cel" (dict "path" (printf "%s.%s" $path $key) "value" $item) }}{{ end }}
{{- end }}}
{{- else if kindIs "slice" .value }}[
{{- range $index, $item := .value }}
{{- if $index }}, {{ end }}
{{- include "mamparo.cel" (dict "path" $path "value" $item) }}
{{- end }}]
{{- else }}
{{- toJson .value }}
{{- end }}
{{- end }}

{{/* The injected container in CEL; its image is a variable. */}}
{{- define "mamparo.sidecar.cel" -}}
{{- $container := include "mamparo.container" . | fromYaml }}
{{- $_ := set $container "restartPolicy" "Always" }}
{{- $_ := set $container "image" "variables.image" }}
{{- include "mamparo.cel" (dict "path" "Object.spec.initContainers" "value" $container) | replace "\"variables.image\"" "variables.image" }}
{{- end }}
