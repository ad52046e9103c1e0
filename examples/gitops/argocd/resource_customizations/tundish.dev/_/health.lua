-- Health of AIBackends, AIRoutes and AIQuotas, from the same conditions and in the same order as kstatus, which Flux
-- and kubectl wait by.
local health = { status = "Progressing", message = "the operator has not seen this generation yet" }
if obj.status == nil or obj.status.conditions == nil then
  return health
end
local found = {}
for _, condition in ipairs(obj.status.conditions) do
  -- A condition of an older generation says nothing about this one.
  if condition.observedGeneration == nil or condition.observedGeneration == obj.metadata.generation then
    found[condition.type] = condition
  end
end
if found.Reconciling ~= nil and found.Reconciling.status == "True" then
  health.message = found.Reconciling.message
elseif found.Stalled ~= nil and found.Stalled.status == "True" then
  health.status = "Degraded"
  health.message = found.Stalled.message
elseif found.Ready ~= nil then
  if found.Ready.status == "True" then
    health.status = "Healthy"
  end
  health.message = found.Ready.message
end
return health
