-- measure: the drain rate (jobs ended a second, smoothed over about 10 s) and how full Redis' memory is, for includes/admission.lua.
-- Only while jobs wait from one look to the next does the rate of their ends say what the workers can do; while they idle it says what is asked of them.
local function measure()
  local ends = redis.call('HMGET', root .. 'counters', 'succeeded', 'dead_lettered')
  local done = (tonumber(ends[1]) or 0) + (tonumber(ends[2]) or 0)
  local waits = redis.call('EXISTS', lines('high'), lines('normal'), lines('low')) > 0
  local seen = redis.call('HMGET', LOAD, 'at', 'done', 'busy', 'rate')
  local since, ended, rate = tonumber(seen[1]) or now, done - (tonumber(seen[2]) or done), tonumber(seen[4])
  if not waits or seen[3] ~= '1' then
    redis.call('HSET', LOAD, 'at', now, 'done', done, 'busy', waits and '1' or '')
  elseif ended > 0 and now > since then
    local seconds = (now - since) / 1000
    -- At most half: the first job after a long standstill says little of how it goes on.
    local weight = rate and math.min(0.5, 1 - math.exp(-seconds / 10)) or 1
    rate = (rate or 0) + weight * (ended / seconds - (rate or 0))
    redis.call('HSET', LOAD, 'at', now, 'done', done, 'rate', string.format('%.4f', rate), 'rated', now)
  end -- nothing ended: the interval grows
  local info = redis.pcall('INFO', 'memory') -- an ACL may forbid it; then no limit is known
  if type(info) == 'string' then
    local used, most = tonumber(string.match(info, 'used_memory:(%d+)')), tonumber(string.match(info, 'maxmemory:(%d+)'))
    redis.call('HSET', LOAD, 'memory', most and most > 0 and math.floor(100 * used / most) or 0)
  end
end

-- adopt: jobs of a release that had one line a class join those of theirs.
local function adopt()
  for _, class in ipairs(CLASSES) do
    local jobs = redis.call('ZPOPMIN', root .. 'ready:' .. class, 500)
    for i = 1, #jobs, 2 do
      if redis.call('HGET', record(jobs[i]), 's') == 'queued' then -- guard: who has ended since waits no more
        join(class, line_of(jobs[i], false), jobs[i], jobs[i + 1])
      end
    end
    if #jobs > 0 then redis.call('ZADD', WAKE, 0, 'w') end
  end
end

-- settle_accounts: with nothing unfinished, nothing is held. Mends what jobs left behind that vanished unended (all workers and gateways away for longer
-- than their deadline and retention). Call it once the changes of this call are written.
local function settle_accounts()
  if redis.call('EXISTS', ALARMS) == 1 then return end -- guard: what is under way counts
  redis.call('DEL', root .. 'unfinished', root .. 'unfinished-models', DEPTH, SLOTS, SHARED_CALLS)
  redis.call('HSET', LOAD, 'bytes', 0)
  redis.call('HSET', root .. 'counters', 'scheduled', 0, 'queued', 0, 'running', 0)
end

-- trim_dead_letters: those past their time, and the oldest of too many. Their records go on for the job's own retention.
local function trim_dead_letters(keep, most)
  local excess = redis.call('ZCARD', DEAD) - most
  local oldest = redis.call('ZRANGE', DEAD, 0, 199, 'WITHSCORES')
  for i = 1, #oldest, 2 do
    local id, at = oldest[i], tonumber(oldest[i + 1])
    local ttl = tonumber(redis.call('HGET', record(id), 'ttl'))
    if ttl and at > now - keep and (i + 1) / 2 > excess then return end -- guard: the others stay
    redis.call('ZREM', DEAD, id)
    redis.call('DEL', payloads .. id)
    if ttl and at + ttl > now then redis.call('PEXPIRE', record(id), at + ttl - now) else redis.call('DEL', record(id)) end
    count('trimmed', 1)
  end
end

-- trim_index: drop from a tenant's list the jobs whose records are gone. Goes round it piece by piece, since dead letters outlive the jobs after them.
-- Neighbours mostly go together, so of each full hundred a tenth is looked at, another tenth each time, and all of them once one is gone.
local PIECE, HUNDRED, TENTH = 2000, 100, 10
local function trim_index(tenant)
  local index, mark = root .. 'tenant:' .. tenant, 'trim:' .. tenant
  local from = tonumber(redis.call('HGET', LOAD, mark)) or 0
  local ids = redis.call('ZRANGE', index, from, from + PIECE - 1)
  local gone = {}
  for first = 1, #ids, HUNDRED do
    local last, sample = math.min(first + HUNDRED - 1, #ids), {}
    local full = last - first + 1 == HUNDRED
    for i = first + (full and now % TENTH or 0), last, full and TENTH or 1 do sample[#sample + 1] = record(ids[i]) end
    if redis.call('EXISTS', unpack(sample)) < #sample then
      for i = first, last do
        if redis.call('EXISTS', record(ids[i])) == 0 then gone[#gone + 1] = ids[i] end
      end
    end
  end
  in_bulk(gone, 'ZREM', index)
  if #ids == PIECE then redis.call('HSET', LOAD, mark, from + #ids - #gone) else redis.call('HDEL', LOAD, mark) end
  if redis.call('EXISTS', index) == 0 then redis.call('SREM', root .. 'tenants', tenant) end
end
