-- Which actions on an EdgeDeployment make sense now: the same rules as the command line's.
local rollout = (obj.spec or {}).rollout or {}
local status = obj.status or {}
local engine = status.rollout or {}
local stage = engine.stage or "Idle"
local paused = rollout.paused == true

local failed = false
for _, entry in ipairs(status.failedRevisions or {}) do
  failed = failed or entry.revision == status.targetRevision
end
local under_way = status.targetRevision ~= nil and stage ~= "Idle"
local abortable = stage == "Deploying" or stage == "Stepping" or stage == "Soaking" or stage == "Paused"
local waiting = stage == "Paused" or engine.reason == "WaitingForMetrics"
local offer = status.upgrade or {}
local asked = (obj.metadata.annotations or {})["skerry.dev/upgrade"]
local upgradable = offer.imageSet ~= nil and offer.policy ~= "Rollout" and asked ~= offer.imageSet

return {
  promote = {disabled = not (under_way and waiting and not failed and not paused)},
  abort = {disabled = not (under_way and abortable)},
  retry = {disabled = (status.failedRevisions or {})[1] == nil},
  upgrade = {disabled = not upgradable},
  pause = {disabled = paused},
  resume = {disabled = not paused},
}
