-- Lets a rollout that waits for a person go on.
obj.metadata.annotations = obj.metadata.annotations or {}
obj.metadata.annotations["skerry.dev/promote"] = obj.status.targetRevision
return obj
