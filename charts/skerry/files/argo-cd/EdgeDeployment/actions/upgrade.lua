-- Rolls the operator's present runtime images out, by the steps of the spec.
obj.metadata.annotations = obj.metadata.annotations or {}
obj.metadata.annotations["skerry.dev/upgrade"] = obj.status.upgrade.imageSet
return obj
