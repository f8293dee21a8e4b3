{{/* The name of every object of this release: that of the release, so that two of one namespace are apart. */}}
{{- define "fanfare.name" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}

{{- define "fanfare.account" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "fanfare.name" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* What pods are selected by. */}}
{{- define "fanfare.selector" -}}
app.kubernetes.io/name: fanfare
app.kubernetes.io/instance: {{ include "fanfare.name" . }}
app.kubernetes.io/component: {{ .Values.role }}
{{- end -}}

{{- define "fanfare.labels" -}}
{{ include "fanfare.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The name of the lock of an election, or of the replicas of which one writes. */}}
{{- define "fanfare.lock" -}}
{{- .Values.lock | default (include "fanfare.name" .) -}}
{{- end -}}

{{/* The port that is scraped. */}}
{{- define "fanfare.metricsPort" -}}
{{- if has .Values.role (list "endpoints" "mirror") -}}http{{- else -}}admin{{- end -}}
{{- end -}}

{{/* Whether clients send requests to the release. */}}
{{- define "fanfare.serves" -}}
{{- if and .Values.service.enabled (has .Values.role (list "broadcast" "endpoints" "run")) -}}true{{- end -}}
{{- end -}}

{{/* The arguments: those of the chart, unless `args` has the same flag, and then `args`. */}}
{{- define "fanfare.args" -}}
{{- $own := list -}}
{{- $lock := include "fanfare.lock" . -}}
{{- $role := .Values.role -}}
{{- if eq $role "broadcast" -}}
{{- $own = list "--namespace=$(POD_NAMESPACE)" "--drain-delay=5s" "--drain-timeout=15s" "--threads=2" "--max-buffered=128MiB" "--log-format=json" "--access-log=json" -}}
{{- else if eq $role "discover" -}}
{{- $own = list "--namespaces=$(POD_NAMESPACE)" "--leader-elect" (printf "--leader-elect-resource-name=%s" $lock) "--log-format=json" -}}
{{- else if eq $role "bridge" -}}
{{- $own = list "--log-format=json" -}}
{{- else if eq $role "elect" -}}
{{- $own = list (printf "-election=%s" $lock) "-namespace=$(POD_NAMESPACE)" "-unique-id" (ternary "-http=127.0.0.1:4040" "-http=:4040" (gt (len .Values.workload.containers) 0)) "-metrics-interface=:8081" "-log-format=json" -}}
{{- if .Values.leaderService.enabled -}}
{{- $own = append $own (printf "-leader-service=%s-leader" $lock) -}}
{{- end -}}
{{- else if eq $role "endpoints" -}}
{{- $own = list "--namespace=$(POD_NAMESPACE)" "--listen=:8080" "--log-format=json" -}}
{{- else if eq $role "mirror" -}}
{{- $own = list "-mirror-ns=$(POD_NAMESPACE)" "-leader-elect" (printf "-leader-elect-resource-name=%s" $lock) "-log-format=json" -}}
{{- else -}}
{{- $own = list "--config=/etc/fanfare/fanfare.yaml" -}}
{{- end -}}
{{- $args := list $role -}}
{{- range $argument := $own -}}
{{- $flag := $argument | splitList "=" | first | trimPrefix "-" | trimPrefix "-" -}}
{{- $given := false -}}
{{- range $.Values.args -}}
{{- if eq $flag (. | splitList "=" | first | trimPrefix "-" | trimPrefix "-") -}}{{- $given = true -}}{{- end -}}
{{- end -}}
{{- if not $given -}}{{- $args = append $args $argument -}}{{- end -}}
{{- end -}}
{{- toYaml (concat $args .Values.args) -}}
{{- end -}}

{{/* The rules of the Role in files/rbac, which is that of deploy/<role>, for the names of this release. */}}
{{- define "fanfare.rulesOf" -}}
{{- $text := $.root.Files.Get (printf "files/rbac/%s.yaml" .role) -}}
{{- $lock := include "fanfare.lock" .root -}}
{{- $rules := index (splitList "\nrules:\n" $text) 1 | splitList "\n---" | first -}}
{{- $rules | replace "[fanfare-discover]" (printf "[%s]" $lock) | replace "[fanfare-mirror]" (printf "[%s]" $lock) | replace "[example]" (printf "[%s]" $lock) | replace "example-leader" (printf "%s-leader" $lock) -}}
{{- end -}}

{{/* The rules of this release; of `run`, those of all its roles. */}}
{{- define "fanfare.rules" -}}
{{- $roles := ternary .Values.runRoles (list .Values.role) (eq .Values.role "run") -}}
{{- $rules := list -}}
{{- range $role := $roles -}}
{{- if ne $role "bridge" -}}
{{- $rules = concat $rules (include "fanfare.rulesOf" (dict "root" $ "role" $role) | fromYamlArray) -}}
{{- end -}}
{{- end -}}
{{- if $rules -}}{{- toYaml (uniq $rules) -}}{{- end -}}
{{- end -}}

{{/* The container of fanfare. */}}
{{- define "fanfare.container" -}}
{{- $role := .Values.role -}}
name: fanfare
image: {{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- if .Values.workload.containers }}
# Beside the workload, as a native sidecar: it starts before the workload, and ends after it.
restartPolicy: Always
{{- end }}
args:
  {{- include "fanfare.args" . | nindent 2 }}
env:
  - name: POD_NAMESPACE
    valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
  - name: POD_SERVICE
    valueFrom: {fieldRef: {fieldPath: "metadata.labels['app.kubernetes.io/instance']"}}
  {{- if eq $role "elect" }}
  - name: ELECTOR_POD_NAME
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  {{- end }}
  {{- with .Values.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
ports:
  {{- if has $role (list "broadcast" "run" "endpoints" "mirror") }}
  - {name: http, containerPort: {{ .Values.service.targetPort }}}
  {{- end }}
  {{- if not (has $role (list "endpoints" "mirror")) }}
  - {name: admin, containerPort: 8081}
  {{- end }}
{{- $port := include "fanfare.metricsPort" . }}
{{- $healthy := dict "endpoints" "/health" "mirror" "/healthz" }}
{{- $ready := dict "endpoints" "/ready" "mirror" "/readyz" }}
{{- if .Values.workload.containers }}
startupProbe:
  httpGet: {path: {{ get $healthy $role | default "/-/healthy" }}, port: {{ $port }}}
  periodSeconds: 1
  timeoutSeconds: 2
  failureThreshold: 60
{{- end }}
# Whether the process still answers. Failures of its dependencies must not restart it.
livenessProbe:
  httpGet: {path: {{ get $healthy $role | default "/-/healthy" }}, port: {{ $port }}}
  periodSeconds: 10
  timeoutSeconds: 2
  failureThreshold: 3
{{- if ne $role "elect" }}
readinessProbe:
  httpGet: {path: {{ get $ready $role | default "/-/ready" }}, port: {{ $port }}}
  periodSeconds: {{ ternary 2 5 (has $role (list "broadcast" "run" "endpoints")) }}
  timeoutSeconds: 2
  failureThreshold: {{ ternary 1 3 (has $role (list "broadcast" "run" "endpoints")) }}
{{- end }}
volumeMounts:
  {{- if eq $role "run" }}
  - {name: config, mountPath: /etc/fanfare, readOnly: true}
  {{- end }}
  {{- with .Values.volumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}
