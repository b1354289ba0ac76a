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

{{/*
Address of an image: dict "image" (one of the image values) "root" $. The default registry,
localhost, does not go before a repository that names a host: `ghcr.io/edge/operator`.
*/}}
{{- define "skerry.image" -}}
{{- $host := first (splitList "/" .image.repository) -}}
{{- $named := and (contains "/" .image.repository) (or (contains "." $host) (eq $host "localhost")) -}}
{{- if not (and $named (eq (default "" .image.registry) "localhost")) -}}
{{- with .image.registry }}{{ . }}/{{ end -}}
{{- end -}}
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

{{/*
The settings that decide what the operator plans, as its environment variables: also what
`skerry plan` reads.
*/}}
{{- define "skerry.planSettings" -}}
SKERRY_RUNTIME_IMAGE: {{ include "skerry.image" (dict "image" .Values.runtimeImage "root" $) | quote }}
{{- with .Values.runtimeImages }}
SKERRY_RUNTIME_IMAGES: {{ include "skerry.runtimeImages" (dict "images" . "root" $) | quote }}
{{- end }}
{{- with .Values.runtimeUpgrade }}
SKERRY_RUNTIME_UPGRADE: {{ . | quote }}
{{- end }}
{{- with .Values.tritonImage }}
SKERRY_TRITON_IMAGE: {{ . | quote }}
{{- end }}
{{- with include "skerry.modelPods" . }}
SKERRY_MODEL_PODS: {{ . | quote }}
{{- end }}
{{- with .Values.fetch.allowCIDRs }}
SKERRY_FETCH_ALLOW: {{ uniq . | join "," | quote }}
{{- end }}
{{- with .Values.fetch.hfEndpoint }}
SKERRY_HF_ENDPOINT: {{ . | quote }}
{{- end }}
{{- with include "skerry.policy" . }}
SKERRY_POLICY: {{ . | quote }}
{{- end }}
{{- with .Values.fetch.httpsProxy }}
SKERRY_HTTPS_PROXY: {{ . | quote }}
{{- end }}
{{- with .Values.fetch.noProxy }}
SKERRY_NO_PROXY: {{ uniq . | join "," | quote }}
{{- end }}
{{- with .Values.fetch.caBundle }}
SKERRY_CA_BUNDLE: {{ . | quote }}
{{- end }}
SKERRY_ACCELERATOR_GRACE_SECONDS: {{ .Values.acceleratorGraceSeconds | quote }}
SKERRY_NETWORK_POLICIES: {{ .Values.modelNetworkPolicies.enabled | quote }}
SKERRY_ADMIN_PEERS: {{ include "skerry.adminPeers" . | quote }}
{{- with .Values.watchNamespaces }}
SKERRY_NAMESPACES: {{ uniq . | join "," | quote }}
{{- end }}
{{- end -}}

{{/* What all model pods have besides, as JSON; nothing when that is nothing. */}}
{{- define "skerry.modelPods" -}}
{{- $found := dict -}}
{{- range $name, $value := .Values.modelPods -}}
{{- if $value -}}{{- $_ := set $found $name $value -}}{{- end -}}
{{- end -}}
{{- with $found -}}{{- toJson . -}}{{- end -}}
{{- end -}}

{{/* Whose signatures count for models, as JSON; nothing when models say it themselves. */}}
{{- define "skerry.policy" -}}
{{- $found := dict -}}
{{- range $name, $value := .Values.policy -}}
{{- if $value -}}{{- $_ := set $found $name $value -}}{{- end -}}
{{- end -}}
{{- with $found -}}{{- toJson . -}}{{- end -}}
{{- end -}}

{{- define "skerry.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "skerry.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{/* The keys of the site caches. */}}
{{- define "skerry.siteSecret" -}}
{{- .Values.siteCache.secretName | default (printf "%s-site-cache" (include "skerry.fullname" .)) -}}
{{- end -}}

{{/* Owner of the site caches: they go with it. */}}
{{- define "skerry.siteOwner" -}}
{{- printf "%s-site-caches" (include "skerry.fullname" .) -}}
{{- end -}}

{{/* How the site caches are made, as JSON. */}}
{{- define "skerry.siteCache" -}}
{{- $cache := .Values.siteCache -}}
{{- $secrets := list -}}
{{- range .Values.imagePullSecrets -}}{{- $secrets = append $secrets .name -}}{{- end -}}
{{- dict "site_label" $cache.siteLabel "size" $cache.size "quota" $cache.quota "storage_class" $cache.storageClass "claims" $cache.claims "memory" $cache.memory "tolerations" $cache.tolerations "priority_class" $cache.priorityClassName "secret" (include "skerry.siteSecret" .) "owner" (include "skerry.siteOwner" .) "pull_secrets" $secrets | toJson -}}
{{- end -}}

{{/* How builds of models are made, as JSON. */}}
{{- define "skerry.optimize" -}}
{{- $optimize := .Values.optimize -}}
{{- $image := include "skerry.image" (dict "image" $optimize.image "root" $) -}}
{{- dict "image" $image "store" $optimize.store.uri "push_secret" $optimize.store.pushSecretName "pull_secret" $optimize.store.pullSecretName "jobs" $optimize.jobs "jobs_per_namespace" $optimize.jobsPerNamespace "node_selector" $optimize.nodeSelector | toJson -}}
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
{{- if .Values.optimize.enabled }}
# The Jobs that make builds. Their pods have no right to anything in the cluster.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
- apiGroups: [""]
  resources: [events]
  # `list`: why a workload makes no pods, or a pod does not start, while that is so.
  verbs: [create, patch, list]
{{- end -}}
