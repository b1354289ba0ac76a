-- Health of an EdgeDeployment for Argo CD, out of its conditions. Base library only.
local function result(status, message)
  return {status = status, message = message or ""}
end

if obj.metadata.deletionTimestamp ~= nil then
  return result("Progressing", "it is being deleted")
end
if obj.status == nil or obj.status.conditions == nil then
  return result("Progressing", "the operator has not seen it yet")
end
if obj.status.observedGeneration ~= obj.metadata.generation then
  return result("Progressing", "the operator has not seen the newest spec yet")
end

local found = {}
for _, condition in ipairs(obj.status.conditions) do
  found[condition.type] = condition
end
local function holds(name)
  return found[name] ~= nil and found[name].status == "True"
end
local ready = found.Ready or {}

-- only a person can help: rolled back, failed, aborted, invalid
if holds("Stalled") then
  return result("Degraded", found.Stalled.message)
end
-- a person is waited for: a pause step, or spec.rollout.paused
if ready.reason == "Paused" then
  return result("Suspended", ready.message)
end
if holds("Reconciling") then
  return result("Progressing", found.Reconciling.message)
end
if holds("Ready") then
  return result("Healthy", ready.message)
end
-- nothing is under way, and a unit serves nothing
if ready.reason == "NotServing" then
  return result("Degraded", ready.message)
end
-- a model, a node or a unit is still to come
return result("Progressing", ready.message)
