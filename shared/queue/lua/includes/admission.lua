-- door: who may come in. Opened once a call, it reads what it needs once; asked for each job, it says why not, or nil and counts the job as in.
-- limits   'depth tenant bytes age memory estimate': jobs waiting, a tenant's unfinished jobs, payload bytes of unfinished jobs,
--          age of the oldest waiting job of the class (ms), share of Redis' memory (%), 1: refuse what would wait past its deadline.
--          0, or left out: no such limit.
-- refusal  '#<code> <jobs that must end before there is room> <jobs ended a second, 0: unknown> <ms since one ended>'
local SHARE = {high = 1, normal = 0.95, low = 0.8} -- of depth, bytes and age: low priority is shed first, high last
local SPARE_MEMORY = {high = 0, normal = 0, low = 5}
local WEIGHT = {high = 8, normal = 3, low = 1}
local FRESH_MS = 60000 -- an older drain rate says nothing about a deadline
local ROOM = 0.9 -- come back when a tenth is free again: told to return at the first free place, all would meet at it

local function door(limits)
  local limit = {}
  for number in string.gmatch(limits, '%d+') do limit[#limit + 1] = tonumber(number) end
  local max_depth, max_tenant, max_bytes, max_age, max_memory = limit[1] or 0, limit[2] or 0, limit[3] or 0, limit[4] or 0, limit[5] or 0
  local estimates = limit[6] == 1
  if max_depth + max_tenant + max_bytes + max_age + max_memory == 0 and not estimates then return function() end end

  local seen = redis.call('HMGET', LOAD, 'bytes', 'rate', 'rated', 'at', 'busy', 'memory')
  local bytes, rate, memory = tonumber(seen[1]) or 0, tonumber(seen[2]) or 0, tonumber(seen[6]) or 0
  local fresh = rate > 0 and now - (tonumber(seen[3]) or 0) <= FRESH_MS
  local stalled = seen[5] == '1' and now - (tonumber(seen[4]) or now) or 0
  local depth = {high = waiting_jobs('high'), normal = waiting_jobs('normal'), low = waiting_jobs('low')}
  local waiting = depth.high + depth.normal + depth.low
  local jobs, oldest, entered = {}, {}, 0

  local function jobs_of(tenant)
    if not jobs[tenant] then jobs[tenant] = tonumber(redis.call('HGET', root .. 'unfinished', tenant)) or 0 end
    return jobs[tenant]
  end
  local function unfinished_jobs() return redis.call('ZCARD', ALARMS) + entered end
  local function age_of(class)
    if not oldest[class] then
      local line = redis.call('ZRANGE', lines(class), 0, 0)[1]
      local first = line and redis.call('ZRANGE', line_key(class, line), 0, 0)[1]
      local since = first and redis.call('HMGET', record(first), 'qt', 'ct') or {}
      oldest[class] = now - (tonumber(since[1] or since[2]) or now)
    end
    return oldest[class]
  end
  -- Ms until a job that came now would start: its class gets at least its share of the turns.
  local function wait_of(class)
    local weights = 0
    for name, weight in pairs(WEIGHT) do
      if depth[name] > 0 or name == class then weights = weights + weight end
    end
    return math.min(waiting, depth[class] * weights / WEIGHT[class]) / rate * 1000
  end
  local function refuse(code, places)
    count('refused', 1)
    return string.format('#%s %.3f %.3f %d', code, math.max(places, 0), rate, stalled)
  end

  return function(class, tenant, size, timeout, delay)
    local share = SHARE[class] or 1
    local places = math.ceil(max_depth * share)
    local room, patience = max_bytes * share, max_age * share
    if max_memory > 0 and memory >= max_memory - (SPARE_MEMORY[class] or 0) then -- guard: running jobs need what memory is left
      return refuse('memory_pressure', 0)
    end
    if max_tenant > 0 and jobs_of(tenant) >= max_tenant then -- guard: one tenant cannot fill the queue
      -- The tenant's jobs end among everybody's.
      return refuse('tenant_queue_full', (jobs[tenant] - ROOM * max_tenant) * unfinished_jobs() / jobs[tenant])
    end
    if max_depth > 0 and waiting >= places then -- guard: the queue is bounded
      return refuse('queue_full', waiting - ROOM * places)
    end
    if max_bytes > 0 and bytes + size > room then -- guard: so are its bytes
      return refuse('queue_bytes_full', (bytes + size - ROOM * room) * unfinished_jobs() / (bytes + size))
    end
    if max_age > 0 and age_of(class) > patience then -- guard: a queue that does not move takes no more
      return refuse('queue_too_slow', depth[class] * (1 - ROOM * patience / age_of(class))) -- as if they had come evenly
    end
    if estimates and fresh and delay == 0 and wait_of(class) > timeout then -- guard: what would expire in line is told so now
      return refuse('deadline_unreachable', (wait_of(class) - timeout) * rate / 1000)
    end
    entered = entered + 1
    bytes = bytes + size
    if max_tenant > 0 then jobs[tenant] = jobs_of(tenant) + 1 end
    if delay == 0 then
      waiting = waiting + 1
      depth[class] = depth[class] + 1
    end
  end
end
