{{/* Name of the chart, or its override. */}}
{{- define "skerry.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Name of every object: the release's name, with the chart's name where that does not hold it. */}}
{{- define "skerry.fullname" -}}
{{- $name := include "skerry.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels that select the operator's pod; they never change. */}}
{{- define "skerry.selectorLabels" -}}
app.kubernetes.io/name: {{ include "skerry.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{/* Labels of every object. */}}
{{- define "skerry.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "skerry.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* Address of an image: dict "image" (one of the image values) "root" $. */}}
{{- define "skerry.image" -}}
{{- with .image.registry }}{{ . }}/{{ end -}}
{{- .image.repository -}}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .image.tag | default $.root.Chart.AppVersion }}{{ end -}}
{{- end -}}

{{/* Images by flavor, as `flavor=address` with commas between: dict "images" "root" $. */}}
{{- define "skerry.runtimeImages" -}}
{{- $pairs := list -}}
{{- range $flavor, $image := .images -}}
{{- $pairs = append $pairs (printf "%s=%s" $flavor (include "skerry.image" (dict "image" $image "root" $.root))) -}}
{{- end -}}
{{- join "," $pairs -}}
{{- end -}}

{{- define "skerry.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "skerry.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- define "skerry.leaseName" -}}
{{- .Values.lease.name | default (include "skerry.fullname" .) -}}
{{- end -}}

{{/* Name of objects that have no namespace; the release's own tells two of one name apart. */}}
{{- define "skerry.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "skerry.fullname" .) -}}
{{- end -}}

{{/*
Whether the server has ValidatingAdmissionPolicy. A rendering without a server knows versions and
no kinds; then the version of Kubernetes tells: it is there, and on, from 1.30.
*/}}
{{- define "skerry.hasAdmissionPolicies" -}}
{{- if .Capabilities.APIVersions.Has "v1/Pod" -}}
{{- ternary "yes" "" (.Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy") -}}
{{- else -}}
{{- ternary "yes" "" (semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- end -}}

{{/*
Who reaches the admin ports of the model pods, as NetworkPolicy peers: the operator, and whom the
values name.
*/}}
{{- define "skerry.adminPeers" -}}
{{- $namespace := dict "matchLabels" (dict "kubernetes.io/metadata.name" .Release.Namespace) -}}
{{- $pods := dict "matchLabels" (include "skerry.selectorLabels" . | fromYaml) -}}
{{- $operator := dict "namespaceSelector" $namespace "podSelector" $pods -}}
{{- concat (list $operator) .Values.modelNetworkPolicies.adminFrom | toJson -}}
{{- end -}}

{{/* What the operator does to the objects in the namespaces that it watches. */}}
{{- define "skerry.namespacedRules" -}}
# What users write: read only.
- apiGroups: [skerry.dev]
  resources: [edgemodels, edgedeployments]
  verbs: [list, watch]
# What the operator answers.
- apiGroups: [skerry.dev]
  resources: [edgemodels/status, edgedeployments/status]
  verbs: [patch]
# The pods' reports; the patch makes the kubelet refresh the assignment at once.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, patch]
{{- if eq .Values.statusAccess "Proxy" }}
- apiGroups: [""]
  resources: [pods/proxy]
  verbs: [get]
{{- end }}
# What the operator makes for an EdgeDeployment. `get`, because only objects with its label are
# watched: it asks whether a name is taken before it makes anything of that name.
- apiGroups: [""]
  resources: [configmaps, services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [daemonsets, replicasets, controllerrevisions]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- end -}}
