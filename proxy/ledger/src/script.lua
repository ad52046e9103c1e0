-- Takes returns, charges what is owed and grants what is asked, for all counters of a call in one
-- step; grants everything that is needed or nothing. The algorithm is described in docs/quota-store.md.
--
-- KEYS[1] epoch, KEYS[2] replicas, KEYS[3...] one per counter; all share one hash tag.
-- ARGV: replica, the epoch that it knows or "", 1 to count the replicas, how many it knows, then for
-- each counter: kind, amount, need, want, owed, holds, turn, idle, lasts, buckets to tell, number of
-- returns, {at, amount}..., and
--   r: tau, buckets, reach     c: lease, number of periods, {start, end}...     p: lease
-- Answer: status, epoch, time in ms, replicas, ms without grants, then for each counter:
--   {granted, at, lasts, used, ms until the period ends or -1, what others may hold unused, debt,
--    ms until the oldest bucket leaves, bucket...}: all buckets where the need did not fit, else the
--    newest ones that were asked for.

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

-- An epoch lasts until the data is lost. A replica that knows an earlier epoch shows that it was, and
-- nothing is granted until every replica had time to report its use.
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

-- The time after a refusal in which nothing is granted ahead of need.
local TIGHT = 1000
-- A return may come this much later than the grant could be spent.
local SLACK = 750
-- So a counter is kept at least, for both.
local KEEPS = 2000

-- What of `free` is granted: others may need a part of what is only wanted.
local function grant(c)
  local spare = now < c.tight and 0 or math.floor((c.free - c.need) / math.max(1, replicas))
  return math.max(0, math.min(c.want, c.need + math.max(0, spare)))
end

-- What the caller may hold unused once it has this answer: "amount:until", in a field of its own.
local function note_idle(c, fields, lease)
  local idle = c.idle + c.ahead
  if idle == 0 and not c.noted then return end
  fields[#fields + 1] = '@' .. replica
  fields[#fields + 1] = written(idle) .. ':' .. written(now + lease + SLACK)
end

-- What others may hold unused.
local function idle_elsewhere(c)
  local sum = 0
  local fields = redis.call('HGETALL', c.key)
  for i = 1, #fields, 2 do
    local holder = string.match(fields[i], '^@(.*)$')
    if holder then
      local idle, ends = string.match(fields[i + 1], '^(%d+):(%d+)$')
      if tonumber(ends) <= now then
        redis.call('HDEL', c.key, fields[i])
      elseif holder ~= replica then
        sum = sum + tonumber(idle)
      end
    end
  end
  return sum
end

local rolling = {}

-- A grant that may be spent for `lasts` buckets is charged to the last of them, so up to `reach` - 1
-- buckets lie ahead of the present one, the head.
function rolling.load(c)
  c.tau, c.len, c.reach = number(), number(), number()
  c.size = c.len + c.reach - 1
  local state = redis.call('HMGET', c.key, 'h', 's', 'd', 'w', '@' .. replica)
  local at = math.floor(now / c.tau)
  c.head, c.sum, c.debt = tonumber(state[1]) or at, tonumber(state[2]) or 0, tonumber(state[3]) or 0
  c.tight, c.noted = tonumber(state[4]) or 0, state[5]
  c.slots = {}
  if c.sum == 0 and c.debt == 0 then
    c.head = math.max(c.head, at)
  elseif c.debt == 0 and at - c.head >= c.size then
    redis.call('DEL', c.key)
    c.head, c.sum, c.writes = at, 0, true
  end
  -- A clock that was set back stands still until it has caught up.
  local last = math.min(at, c.head + 100 * c.size)
  while c.head < last do
    c.head = c.head + 1
    local expired = c:slot(c.head - c.len)
    local paid = math.min(expired, c.debt)
    c.slots[(c.head - c.len) % c.size] = 0
    c.sum, c.debt = c.sum - expired, c.debt - paid
    c:charge(paid)
  end
  c.at = c.head
end

function rolling.slot(c, bucket)
  local index = bucket % c.size
  if not c.slots[index] then
    c.slots[index] = tonumber(redis.call('HGET', c.key, written(index))) or 0
  end
  return c.slots[index]
end

function rolling.take_back(c, at, amount)
  if at - c.head >= c.reach or c.head - at >= c.len then return end
  local back = math.min(c:slot(at), amount)
  c.slots[at % c.size] = c:slot(at) - back
  c.sum = c.sum - back
end

function rolling.charge(c, amount, ahead)
  if amount == 0 then return end
  local bucket = c.head + (ahead or 0)
  c.slots[bucket % c.size] = c:slot(bucket) + amount
  c.sum = c.sum + amount
end

-- Grants last longer where much is free, and are charged for as long as they last.
function rolling.lend(c, granted)
  if granted > 0 and now >= c.tight and 2 * (c:used() + granted) <= c.amount then
    c.lasts = math.max(1, math.min(c.lasts, c.reach))
  else
    c.lasts = 1
  end
  c.at = c.head + c.lasts - 1
  c:charge(granted, c.lasts - 1)
end

function rolling.used(c)
  return c.sum + c.debt
end

function rolling.save(c)
  local fields = {'h', written(c.head), 's', written(c.sum), 'd', written(c.debt), 'w', written(c.tight)}
  note_idle(c, fields, c.lasts * c.tau)
  for index, value in pairs(c.slots) do
    fields[#fields + 1] = written(index)
    fields[#fields + 1] = written(value)
  end
  redis.call('HSET', c.key, unpack(fields))
  local windows = 1 + math.min(1000, math.ceil(c.debt / math.max(1, c.amount)))
  redis.call('PEXPIRE', c.key, written(windows * (c.size + 1) * c.tau + KEEPS))
end

-- The newest `count` buckets: to read all sixty of a minute takes five times as long as the rest of a call.
function rolling.profile(c, answer, count)
  answer[7] = c.debt
  answer[8] = math.max(1, (c.head + 1) * c.tau - now)
  local names = {}
  local first = c.head + c.reach - math.min(count, c.len + c.reach - 1)
  for bucket = first, c.head + c.reach - 1 do
    names[#names + 1] = written(bucket % c.size)
  end
  local stored = redis.call('HMGET', c.key, unpack(names))
  for place, value in ipairs(stored) do
    -- What this call has moved is newer than what is stored, which a look leaves as it is.
    answer[8 + place] = c.slots[(first + place - 1) % c.size] or tonumber(value) or 0
  end
end

rolling.elsewhere = idle_elsewhere

local calendar = {}

function calendar.load(c)
  c.lease = number()
  for _ = 1, number() do
    local start, ends = number(), number()
    if start <= now and now < ends then c.at, c.ends = start, ends end
  end
  if not c.at then return false end
  local state = redis.call('HMGET', c.key, 'p', 'u', 'd', 'w', '@' .. replica)
  c.sum, c.debt = tonumber(state[2]) or 0, tonumber(state[3]) or 0
  c.tight, c.noted = tonumber(state[4]) or 0, state[5]
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

function calendar.lend(c, granted)
  c.lasts = 1
  c:charge(granted)
end

calendar.used = rolling.used

function calendar.save(c)
  local fields = {'p', written(c.at), 'u', written(c.sum), 'd', written(c.debt), 'w', written(c.tight)}
  note_idle(c, fields, c.lease)
  redis.call('HSET', c.key, unpack(fields))
  -- Debt goes over into later periods, a year of them at most.
  local keep = c.debt > 0 and 366 * 86400000 or 60000
  redis.call('PEXPIRE', c.key, written(math.max(0, c.ends - now) + keep))
end

function calendar.profile() end

calendar.elsewhere = idle_elsewhere

local places = {}

function places.load(c)
  c.lease = number()
  c.sum, c.debt, c.at, c.others, c.tight = 0, 0, 0, 0, 0
  -- Each call is a sign of life, without which the store would drop the permits.
  c.writes = true
  local held = redis.call('HGETALL', c.key)
  for i = 1, #held, 2 do
    local count, idle, ends, turn = string.match(held[i + 1], '^(%d+):(%d+):(%d+):(%d+)$')
    if held[i] == 'w' then
      c.tight = tonumber(held[i + 1])
    elseif tonumber(ends) <= now then
      redis.call('HDEL', c.key, held[i])
    elseif held[i] ~= replica then
      c.sum, c.others = c.sum + tonumber(count), c.others + tonumber(idle)
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

places.lend = calendar.lend
places.used = rolling.used

function places.save(c)
  local fields = {'w', written(c.tight)}
  if not c.late then
    -- Also when nothing is held: a delayed call must not take again what was given back since.
    fields[3] = replica
    fields[4] = table.concat({
      written(c.holds), written(c.idle + c.ahead), written(now + c.lease), written(c.turn),
    }, ':')
  end
  redis.call('HSET', c.key, unpack(fields))
  redis.call('PEXPIRE', c.key, written(2 * c.lease + KEEPS))
end

function places.profile() end

function places.elsewhere(c)
  return c.others
end

local kinds = {r = {__index = rolling}, c = {__index = calendar}, p = {__index = places}}
local counters = {}
local fits = grace == 0
for i = 3, #KEYS do
  local c = setmetatable({key = KEYS[i]}, kinds[text()])
  c.amount, c.need, c.want = number(), number(), number()
  c.owed, c.holds, c.turn = number(), number(), number()
  c.idle, c.lasts, c.looks, c.ahead = number(), number(), number(), 0
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
    c.writes = true
  end
  c.free = c.amount - c:used()
  if c.need > c.free then c.tight = now + TIGHT end
  if c.need > c.free or c.late then fits = false end
end

local answers = {'ok', epoch, now, replicas, grace}
for _, c in ipairs(counters) do
  local granted = fits and grant(c) or 0
  c:lend(granted)
  -- A grant that was needed is not left unused: a request waits for it.
  if granted > 0 then c.ahead = granted - c.need end
  local used, refuses = c:used(), c.need > c.free
  local elsewhere = refuses and c:elsewhere() or 0
  -- A mere look leaves the key as it is.
  local asks = c.want > 0 or c.need > 0 or c.idle > 0 or c.noted
  if c.writes or asks or #c.returns > 0 or c.owed > 0 then c:save() end
  local ends = c.ends and math.max(0, c.ends - now) or -1
  local answer = {granted, c.at, c.lasts, used, ends, elsewhere, 0, 0}
  local tells = refuses and 1e6 or c.looks
  if tells > 0 then c:profile(answer, tells) end
  if elsewhere > 0 then
    -- Whoever holds something gives it back; the caller asks again soon.
    redis.call('PUBLISH', (string.gsub(KEYS[1], 'epoch$', 'recall')), replica .. ' ' .. c.key)
  end
  answers[#answers + 1] = answer
end
return answers
