-- Ends a rollout; stable comes back.
obj.metadata.annotations = obj.metadata.annotations or {}
obj.metadata.annotations["skerry.dev/abort"] = obj.status.targetRevision
return obj
