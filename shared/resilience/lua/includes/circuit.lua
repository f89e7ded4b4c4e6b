-- Shared head of the circuit scripts: Redis' clock, reading and writing one circuit, telling the workers.
-- A circuit is a hash:  s open|closed   g generation (unix ms, always growing)   u open until (unix ms)
--   n openings in a row   o successes of probes   t changed at (unix ms)   w who changed it   r why   f 1 = by an operator
-- It lapses KEEP_MS after its last change or the end of its open time; the index forgets it then, too.
local KEEP_MS = 3600000
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function read(key)
  local f = redis.call('HMGET', key, 's', 'g', 'u', 'n', 'o', 't', 'w', 'r', 'f')
  return {
    state = f[1] or '', generation = tonumber(f[2]) or 0, open_until = tonumber(f[3]) or 0, openings = tonumber(f[4]) or 0,
    successes = tonumber(f[5]) or 0, changed_at = tonumber(f[6]) or 0, worker = f[7] or '', reason = f[8] or '', forced = f[9] or '',
  }
end

-- change: the only place that writes a state. The generation grows even if the clock was set back.
local function change(key, index, channel, name, c)
  c.generation = math.max(now, c.generation + 1)
  c.changed_at, c.successes = now, 0
  redis.call('HSET', key, 's', c.state, 'g', c.generation, 'u', c.open_until, 'n', c.openings, 'o', 0, 't', now,
    'w', c.worker, 'r', c.reason, 'f', c.forced)
  local lapses = math.max(now, c.open_until) + KEEP_MS
  redis.call('PEXPIRE', key, lapses - now)
  redis.call('ZADD', index, lapses, name)
  local newest = redis.call('ZREVRANGE', index, 0, 0, 'WITHSCORES')
  redis.call('PEXPIRE', index, math.max(lapses, tonumber(newest[2])) - now)
  redis.call('PUBLISH', channel, 'changed ' .. name)
end

-- row: what callers learn. What they reckon with are durations, because no client's clock is ever compared with ours.
local function row(name, c)
  return {name, c.state, c.generation, math.max(0, c.open_until - now), c.openings, now - c.changed_at, c.changed_at, c.worker,
    c.reason, c.forced}
end

local function drop_permit(key, token)
  if redis.call('GET', key) == token then redis.call('DEL', key) end -- guard: only one's own permit
end
