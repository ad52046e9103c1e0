-- Takes returns, charges what is owed and grants what is asked, for all counters of a call in one
-- step; grants everything that is needed or nothing. The algorithm is described in docs/quotas.md.
--
-- KEYS[1] epoch, KEYS[2] replicas, KEYS[3...] one per counter; all share one hash tag.
-- ARGV: replica, the epoch that it knows or "", 1 to count the replicas, how many it knows, then for
-- each counter: kind, amount, need, want, owed, holds, turn, number of returns, {at, amount}..., and
--   r: tau, buckets     c: number of periods, {start, end}...     p: lease
-- Answer: status, epoch, time in ms, replicas, ms without grants, then for each counter:
--   {granted, at, used, ms until the period ends or -1, debt, ms until the oldest bucket leaves,
--    bucket...}, the buckets only where the need did not fit.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local cursor = 0
local function text()
  cursor = cursor + 1
  return ARGV[cursor]
end
local function number()
  return tonumber(text())
end
local function written(value)
  return string.format('%.0f', value)
end

local replica, known, counting, replicas = text(), text(), number(), number()

-- The epoch is one life of the data. When a replica that remembers another life makes it, data was
-- lost, and nothing is granted until all had time to tell what they have used.
local GRACE = 1000
local REPLICA_LIVES = 2000
local epoch = redis.call('GET', KEYS[1])
if not epoch then
  epoch = written(known == '' and 0 or now + GRACE) .. ':' .. written(now) .. ':' .. replica
  redis.call('SET', KEYS[1], epoch)
end
local grace = math.max(0, tonumber(string.match(epoch, '^(%d+):')) - now)
if grace > GRACE then grace = GRACE end

if counting == 1 then
  redis.call('ZADD', KEYS[2], written(now + REPLICA_LIVES), replica)
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', written(now))
  replicas = redis.call('ZCARD', KEYS[2])
end
if known ~= epoch then
  return {'epoch', epoch, now, replicas, grace}
end

-- What of `free` is granted: others may need a part of what is only wanted.
local function grant(c)
  local spare = math.floor((c.free - c.need) / math.max(1, replicas))
  return math.max(0, math.min(c.want, c.need + math.max(0, spare)))
end

local rolling = {}

function rolling.load(c)
  c.tau, c.len = number(), number()
  local state = redis.call('HMGET', c.key, 'h', 's', 'd')
  local at = math.floor(now / c.tau)
  c.head, c.sum, c.debt = tonumber(state[1]) or at, tonumber(state[2]) or 0, tonumber(state[3]) or 0
  c.slots = {}
  if c.sum == 0 and c.debt == 0 then
    c.head = math.max(c.head, at)
  elseif c.debt == 0 and at - c.head >= c.len then
    redis.call('DEL', c.key)
    c.head, c.sum = at, 0
  end
  -- A clock that was set back stands still until it has caught up.
  local last = math.min(at, c.head + 100 * c.len)
  while c.head < last do
    c.head = c.head + 1
    local expired = c:slot(c.head)
    local paid = math.min(expired, c.debt)
    c.slots[c.head % c.len] = paid
    c.sum, c.debt = c.sum - expired + paid, c.debt - paid
  end
  c.at = c.head
end

function rolling.slot(c, bucket)
  local index = bucket % c.len
  if not c.slots[index] then
    c.slots[index] = tonumber(redis.call('HGET', c.key, written(index))) or 0
  end
  return c.slots[index]
end

function rolling.take_back(c, at, amount)
  if at > c.head or c.head - at >= c.len then return end
  local back = math.min(c:slot(at), amount)
  c.slots[at % c.len] = c:slot(at) - back
  c.sum = c.sum - back
end

function rolling.charge(c, amount)
  c.slots[c.head % c.len] = c:slot(c.head) + amount
  c.sum = c.sum + amount
end

function rolling.used(c)
  return c.sum + c.debt
end

function rolling.save(c)
  local fields = {'h', written(c.head), 's', written(c.sum), 'd', written(c.debt)}
  for index, value in pairs(c.slots) do
    fields[#fields + 1] = written(index)
    fields[#fields + 1] = written(value)
  end
  redis.call('HSET', c.key, unpack(fields))
  local windows = 1 + math.min(1000, math.ceil(c.debt / math.max(1, c.amount)))
  redis.call('PEXPIRE', c.key, written(windows * (c.len + 1) * c.tau))
end

function rolling.profile(c, answer)
  answer[5] = c.debt
  answer[6] = math.max(1, (c.head + 1) * c.tau - now)
  local names = {}
  for bucket = c.head - c.len + 1, c.head do
    names[#names + 1] = written(bucket % c.len)
  end
  local stored = redis.call('HMGET', c.key, unpack(names))
  for place, bucket in ipairs(stored) do
    local index = (c.head - c.len + place) % c.len
    answer[6 + place] = c.slots[index] or tonumber(bucket) or 0
  end
end

local calendar = {}

function calendar.load(c)
  for _ = 1, number() do
    local start, ends = number(), number()
    if start <= now and now < ends then c.at, c.ends = start, ends end
  end
  if not c.at then return false end
  local state = redis.call('HMGET', c.key, 'p', 'u', 'd')
  c.sum, c.debt = tonumber(state[2]) or 0, tonumber(state[3]) or 0
  local period = tonumber(state[1]) or c.at
  if period < c.at then
    c.sum = math.min(c.debt, c.amount)
    c.debt = c.debt - c.sum
  elseif period > c.at then
    -- Only forwards: a clock that was set back must not open a spent period again.
    c.at = period
  end
end

function calendar.take_back(c, at, amount)
  if at == c.at then c.sum = math.max(0, c.sum - amount) end
end

function calendar.charge(c, amount)
  c.sum = c.sum + amount
end

calendar.used = rolling.used

function calendar.save(c)
  redis.call('HSET', c.key, 'p', written(c.at), 'u', written(c.sum), 'd', written(c.debt))
  -- Debt goes over into later periods, a year of them at most.
  local keep = c.debt > 0 and 366 * 86400000 or 60000
  redis.call('PEXPIRE', c.key, written(math.max(0, c.ends - now) + keep))
end

function calendar.profile() end

local places = {}

function places.load(c)
  c.lease = number()
  c.sum, c.debt, c.at = 0, 0, 0
  local held = redis.call('HGETALL', c.key)
  for i = 1, #held, 2 do
    local count, ends, turn = string.match(held[i + 1], '^(%d+):(%d+):(%d+)$')
    if tonumber(ends) <= now then
      redis.call('HDEL', c.key, held[i])
    elseif held[i] ~= replica then
      c.sum = c.sum + tonumber(count)
    elseif tonumber(turn) > c.turn then
      -- A later call was here already: what this one says is not true any more.
      c.late, c.holds = true, tonumber(count)
    end
  end
  c.sum = c.sum + c.holds
end

function places.take_back() end

function places.charge(c, amount)
  c.holds, c.sum = c.holds + amount, c.sum + amount
end

places.used = rolling.used

function places.save(c)
  if c.late then return end
  -- Also when nothing is held: a delayed call must not take again what was given back since.
  local value = written(c.holds) .. ':' .. written(now + c.lease) .. ':' .. written(c.turn)
  redis.call('HSET', c.key, replica, value)
  redis.call('PEXPIRE', c.key, written(2 * c.lease))
end

function places.profile() end

local kinds = {r = {__index = rolling}, c = {__index = calendar}, p = {__index = places}}
local counters = {}
local fits = grace == 0
for i = 3, #KEYS do
  local c = setmetatable({key = KEYS[i]}, kinds[text()])
  c.amount, c.need, c.want = number(), number(), number()
  c.owed, c.holds, c.turn = number(), number(), number()
  c.returns = {}
  for r = 1, number() do
    c.returns[r] = {number(), number()}
  end
  if c:load() == false then
    return {'clock', epoch, now, replicas, grace}
  end
  counters[#counters + 1] = c
end

for _, c in ipairs(counters) do
  for _, back in ipairs(c.returns) do
    c:take_back(back[1], back[2])
  end
  if c.owed > 0 then
    local fitting = math.max(0, math.min(c.owed, c.amount - c:used()))
    c:charge(fitting)
    c.debt = c.debt + c.owed - fitting
  end
  -- Debt is paid by what expires, so it must not be left alone with nothing that could.
  local paid = math.max(0, math.min(c.debt, c.amount - c.sum))
  if paid > 0 then
    c:charge(paid)
    c.debt = c.debt - paid
  end
  c.free = c.amount - c:used()
  if c.need > c.free or c.late then fits = false end
end

local answers = {'ok', epoch, now, replicas, grace}
for _, c in ipairs(counters) do
  local granted = fits and grant(c) or 0
  if granted > 0 then c:charge(granted) end
  c:save()
  local answer = {granted, c.at, c:used(), c.ends and math.max(0, c.ends - now) or -1, 0, 0}
  if c.need > c.free then c:profile(answer) end
  answers[#answers + 1] = answer
end
return answers
