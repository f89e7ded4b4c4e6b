-- requeue: running or scheduled -> queued, at the place in line that `tag` says: its own, unless it goes to the back.
local function requeue(id, from, class, deadline, tag, ...)
  if not move(record(id), from, 'queued', 'tok', '', ...) then return false end
  redis.call('ZADD', ready(class), tag, id)
  redis.call('ZADD', ALARMS, deadline, id)
  redis.call('ZADD', WAKE, 0, 'w')
  return true
end

-- requeue_last: the same, behind the jobs that its tenant has in line now.
local function requeue_last(id, from, class, tenant, deadline, ...)
  local tag = next_tag(class, tenant)
  return requeue(id, from, class, deadline, tag, 'tg', tag, 'qt', now, ...)
end

-- put_off: running -> scheduled, to be queued again after `delay` ms, or to expire if the deadline comes first. `...` are further record fields.
local function put_off(id, delay, deadline, ...)
  move(record(id), 'running', 'scheduled', 'tok', '', 'at', now + delay, ...)
  redis.call('ZADD', ALARMS, math.min(now + delay, deadline), id)
  redis.call('ZADD', WAKE, 0, 'w') -- a worker that went to sleep before this would sleep past it
end
