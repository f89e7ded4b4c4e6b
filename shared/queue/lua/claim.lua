-- claim: hand up to N ready jobs to a worker, each under a fresh token and a lease. Also acts on alarms that are due.
-- KEYS     the three roots
-- ARGV[1]  worker   ARGV[2]  token seed, random   ARGV[3]  N   ARGV[4]  lease, ms   ARGV[5]  longest wait for the next alarm, ms
-- ARGV[6]  plan, see includes/plan.lua   ARGV[7]  '1': show what the plan is made from in any case
-- returns  {ms until the next alarm, view, job...}; a job is {id, token, payload, attempt, failures, created ms, deadline ms, now ms, keep events, crashes,
--          slot as 'host|unit' or '', number of its batch or 0, ends of failed runs...}; the view, see includes/view.lua, is {} unless jobs wait that could not start
--@include record
--@include ending
--@include line
--@include requeue
--@include alarms
--@include plan
--@include view
local MOST_JOBS = 4000 -- of one claim: Lua hands over no more than twice as many values
local STRIDE = {high = 3, normal = 8, low = 24} -- shares 8:3:1

local worker, seed, want, lease = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local lease_end = string.format('%d', now + lease)
local wait = ring(100, tonumber(ARGV[5]))
write_lines()
if redis.call('EXISTS', lines('high'), lines('normal'), lines('low')) == 0 then
  local out = {wait, ARGV[7] == '1' and view() or {}}
  write_gathered()
  return out
end

-- Which jobs: of the lines that may start something now, the class by stride scheduling, and in it the line whose first job has the least tag.
-- A class that was idle starts at the current virtual time, so it gains nothing by waiting.
local plan = read_plan(ARGV[6])
local queues, present = {}, 0
for _, class in ipairs(CLASSES) do
  queues[class] = plan.queues(class)
  if next_queue(class, queues[class], plan) then present = present + 1 end
end
local chosen = {high = {}, normal = {}, low = {}}
if present > 0 then
  local turns = present > 1 and redis.call('HMGET', root .. 'turns', 'high', 'normal', 'low', 'now') or {}
  local virtual, pass = tonumber(turns[4]) or 0, {}
  for i, class in ipairs(CLASSES) do pass[class] = math.max(tonumber(turns[i]) or 0, virtual) end
  local total, calls = 0, 0
  for _ = 1, want do
    if total >= MOST_JOBS then break end
    local best, queue, place
    for _, class in ipairs(CLASSES) do
      if not best or pass[class] < pass[best] then
        local q, p = next_queue(class, queues[class], plan)
        if q then best, queue, place = class, q, p end
      end
    end
    if not best then break end
    virtual = pass[best]
    pass[best] = virtual + STRIDE[best]
    local ids = take(queue, place, plan, want)
    total, calls = total + #ids, calls + 1
    local of = chosen[best]
    of[#of + 1] = {ids = ids, slot = place and place.slot or '', batch = #ids > 1 and calls or 0}
  end
  if present > 1 then redis.call('HSET', root .. 'turns', 'high', pass.high, 'normal', pass.normal, 'low', pass.low, 'now', virtual) end
end
for _, class in ipairs(CLASSES) do
  for _, queue in ipairs(queues[class]) do
    if queue.taken > 0 then pop(class, queue.line, queue.taken) end
  end
end

for host in pairs(plan.loads) do redis.call('HINCRBY', TENURES, host, 1) end

local jobs = {}
local function start(id, slot, batch)
  local key = record(id)
  local job = redis.call('HMGET', key, 's', 'dl', 'n', 'ct', 'ev', 'rt')
  local state, deadline, attempt = job[1], tonumber(job[2]), (tonumber(job[3]) or 0) + 1
  local payload = redis.call('GET', payloads .. id)
  if state == 'queued' and deadline <= now then -- guard: work nobody waits for is not done
    finish(id, state, 'expired', '@job_timeout', '')
  elseif state == 'queued' and not payload then
    finish(id, state, 'dead_lettered', '@payload_lost', '')
  elseif state == 'queued' then -- guard: only a queued job is claimed
    local token, number = seed .. text[#jobs + 1], text[attempt]
    local slot_fields = {}
    if slot ~= '' then
      local held, call = slot .. '|' .. CALL, batch > 0 and seed .. '/' .. batch
      slot_fields = call and {'h', held, 'sc', call} or {'h', held}
      take_call(held, call)
    end
    move(key, state, 'running', 'tok', token, 'w', worker, 'sa', stamp, 'n', number, 'a' .. number, worker .. '|' .. stamp, unpack(slot_fields))
    set_alarm(id, lease_end)
    if job[5] == '1' then
      log_event(id, number, '0', 't', 's')
      tell(job[6], 'j', id, 't', 's', 'a', number)
    end
    local before = job[3] and redis.call('HMGET', key, 'f', 'x') or {} -- what never ran has neither failed nor crashed
    local item = {id, token, payload, attempt, tonumber(before[1]) or 0, tonumber(job[4]), deadline, now, job[5], tonumber(before[2]) or 0, slot, batch}
    if item[5] > 0 then -- where it failed decides where it goes now
      for past = 1, attempt - 1 do
        local ended = redis.call('HGET', key, 'z' .. past)
        if ended and string.sub(ended, 1, 8) == 'retried|' then item[#item + 1] = ended end
      end
    end
    jobs[#jobs + 1] = item
  end
end
for _, class in ipairs(CLASSES) do
  for _, call in ipairs(chosen[class]) do
    for _, id in ipairs(call.ids) do start(id, call.slot, call.batch) end
  end
end
count('claimed', #jobs)
local starved = false
if waiting_jobs('high') + waiting_jobs('normal') + waiting_jobs('low') > 0 then
  local more = false
  for _, class in ipairs(CLASSES) do more = more or next_queue(class, queues[class], plan) end
  if more and want > 0 then redis.call('ZADD', WAKE, 0, 'w') else starved = not more end -- chain wake: another worker takes the rest
end
write_gathered()
return {wait, (starved or ARGV[7] == '1') and view() or {}, unpack(jobs)}
