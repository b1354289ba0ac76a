{{/* Namespace of the example: one of its own, or the first of those that the operator watches. */}}
{{- define "skerry.exampleNamespace" -}}
{{- if .Values.watchNamespaces }}{{ first .Values.watchNamespaces }}{{ else }}{{ printf "%s-example" (include "skerry.fullname" .) }}{{ end -}}
{{- end -}}

{{/*
A model that doubles what it is asked about, with all that it needs: nothing outside the cluster.
The pod that hands out the file runs in the runtime's image, which is on the nodes anyway.
*/}}
{{- define "skerry.exampleManifests" -}}
{{- $namespace := include "skerry.exampleNamespace" . -}}
{{- $model := .Files.Get "files/example/double.onnx" -}}
{{- if not .Values.watchNamespaces -}}
apiVersion: v1
kind: Namespace
metadata:
  name: {{ $namespace }}
  labels:
    pod-security.kubernetes.io/enforce: restricted
---
{{ end -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: double-files
  namespace: {{ $namespace }}
binaryData:
  double.onnx: {{ $model | b64enc }}
---
# A web server for the file. In earnest this is yours: any that speaks http or https.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: double-files
  namespace: {{ $namespace }}
spec:
  selector:
    matchLabels: {app: double-files}
  template:
    metadata:
      labels: {app: double-files}
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      {{- with .Values.modelPods.imagePullSecrets }}
      imagePullSecrets: {{ toJson . }}
      {{- end }}
      securityContext:
        runAsNonRoot: true
        seccompProfile: {type: RuntimeDefault}
      containers:
      - name: server
        image: {{ include "skerry.image" (dict "image" .Values.runtimeImage "root" $) }}
        command: [python3, -m, http.server, "8080", --directory, /files]
        ports:
        - {name: http, containerPort: 8080}
        readinessProbe:
          httpGet: {path: /double.onnx, port: http}
          periodSeconds: 2
        resources:
          requests: {cpu: 10m, memory: 32Mi}
          limits: {memory: 64Mi}
        securityContext:
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          capabilities: {drop: [ALL]}
        volumeMounts:
        - {name: files, mountPath: /files, readOnly: true}
      volumes:
      - name: files
        configMap: {name: double-files}
---
apiVersion: v1
kind: Service
metadata:
  name: double-files
  namespace: {{ $namespace }}
spec:
  selector: {app: double-files}
  ports:
  - {name: http, port: 80, targetPort: http}
---
# What the model is: version, file, digest.
apiVersion: skerry.dev/v1alpha1
kind: EdgeModel
metadata:
  name: double
  namespace: {{ $namespace }}
spec:
  version: "1.0.0"
  variants:
  - name: fp32
    format: ONNX
    source:
      uri: http://double-files.{{ $namespace }}.svc/double.onnx
      sha256: {{ $model | sha256sum }}
---
# Where it runs, and how a new version gets there: here one pod on any node's CPU.
apiVersion: skerry.dev/v1alpha1
kind: EdgeDeployment
metadata:
  name: double
  namespace: {{ $namespace }}
spec:
  modelRef: {name: double}
  placement:
    mode: Replicas
    replicas: 1
    accelerators: [cpu]
  runtime:
    threads: 1
    resources: {cpuRequest: 50m, memoryRequest: 128Mi}
  rollout:
    steps:
    - {units: "100%", soak: 5s}
{{- end -}}
