-- Starts nothing new; failures still roll back.
obj.spec.rollout = obj.spec.rollout or {}
obj.spec.rollout.paused = true
return obj
