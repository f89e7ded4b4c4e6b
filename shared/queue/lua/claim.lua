-- claim: hand up to N ready jobs to a worker, each under a fresh token and a lease. Also acts on alarms that are due.
-- KEYS     the three roots
-- ARGV[1]  worker   ARGV[2]  token seed, random   ARGV[3]  N   ARGV[4]  lease, ms   ARGV[5]  longest wait for the next alarm, ms
-- returns  {ms until the next alarm, job...}; a job is {id, token, payload, attempt, failures, created ms, deadline ms, now ms, keep events, crashes, ends of failed runs...}
--@include record
--@include ending
--@include line
--@include requeue
--@include alarms
local CLASSES = {'high', 'normal', 'low'}
local STRIDE = {high = 3, normal = 8, low = 24} -- shares 8:3:1

local worker, seed, want, lease = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local wait = ring(100, tonumber(ARGV[5]))
local out = {wait}
if redis.call('EXISTS', ready('high'), ready('normal'), ready('low')) == 0 then
  write_counts()
  return out
end

-- How many of each class: stride scheduling. A class that was idle starts at the current virtual time, so it gains nothing by waiting.
local left, take, present = {}, {}, 0
for _, class in ipairs(CLASSES) do
  left[class] = redis.call('ZCARD', ready(class))
  take[class] = 0
  if left[class] > 0 then present = present + 1 end
end
if present == 1 then
  for _, class in ipairs(CLASSES) do take[class] = math.min(want, left[class]) end
else
  local turns = redis.call('HMGET', root .. 'turns', 'high', 'normal', 'low', 'now')
  local virtual = tonumber(turns[4]) or 0
  local pass = {}
  for i, class in ipairs(CLASSES) do pass[class] = math.max(tonumber(turns[i]) or 0, virtual) end
  for _ = 1, want do
    local best
    for _, class in ipairs(CLASSES) do
      if left[class] > take[class] and (not best or pass[class] < pass[best]) then best = class end
    end
    if not best then break end
    virtual = pass[best]
    pass[best] = virtual + STRIDE[best]
    take[best] = take[best] + 1
  end
  redis.call('HSET', root .. 'turns', 'high', pass.high, 'normal', pass.normal, 'low', pass.low, 'now', virtual)
end

local ids = {}
for _, class in ipairs(CLASSES) do
  if take[class] > 0 then
    for _, id in ipairs(pop(class, take[class])) do ids[#ids + 1] = id end
    left[class] = left[class] - take[class]
  end
end
for n, id in ipairs(ids) do
  local key = record(id)
  local job = redis.call('HMGET', key, 's', 'dl', 'n', 'f', 'ct', 'ev', 'rt', 'x')
  local state, deadline, attempt = job[1], tonumber(job[2]), (tonumber(job[3]) or 0) + 1
  local payload = redis.call('GET', payloads .. id)
  if state == 'queued' and deadline <= now then -- guard: work nobody waits for is not done
    finish(id, state, 'expired', '@job_timeout', '')
  elseif state == 'queued' and not payload then
    finish(id, state, 'dead_lettered', '@payload_lost', '')
  elseif state == 'queued' then -- guard: only a queued job is claimed
    local token = seed .. n
    move(key, state, 'running', 'tok', token, 'w', worker, 'sa', now, 'n', attempt, 'a' .. attempt, worker .. '|' .. now)
    redis.call('ZADD', ALARMS, now + lease, id)
    if job[6] == '1' then
      log_event(id, attempt, 0, 't', 's')
      redis.call('PEXPIRE', events(id), deadline - now + 3600000)
      tell(job[7], 'j', id, 't', 's', 'a', attempt)
    end
    local item = {id, token, payload, attempt, tonumber(job[4]) or 0, tonumber(job[5]), deadline, now, job[6], tonumber(job[8]) or 0}
    if item[5] > 0 then -- where it failed decides where it goes now
      for past = 1, attempt - 1 do
        local ended = redis.call('HGET', key, 'z' .. past)
        if ended and string.sub(ended, 1, 8) == 'retried|' then item[#item + 1] = ended end
      end
    end
    out[#out + 1] = item
  end
end
count('claimed', #out - 1)
if left.high + left.normal + left.low > 0 then
  redis.call('ZADD', WAKE, 0, 'w') -- chain wake: another worker takes the rest
end
write_counts()
return out
