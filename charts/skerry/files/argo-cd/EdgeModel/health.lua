-- Health of an EdgeModel for Argo CD, out of its conditions. Base library only.
if obj.metadata.deletionTimestamp ~= nil then
  return {status = "Progressing", message = "it is being deleted"}
end
if obj.status == nil or obj.status.conditions == nil then
  return {status = "Progressing", message = "the operator has not seen it yet"}
end
if obj.status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "the operator has not seen the newest spec yet"}
end
for _, condition in ipairs(obj.status.conditions) do
  if condition.type == "Ready" then
    local status = condition.status == "True" and "Healthy" or "Degraded"
    return {status = status, message = condition.message or ""}
  end
end
return {status = "Progressing", message = "the operator has not judged it yet"}
