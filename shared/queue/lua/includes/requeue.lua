-- requeue: running or scheduled -> queued, at the place in line that `tag` says: its own, unless it goes to the back.
local function requeue(id, from, deadline, tag, ...)
  if not move(record(id), from, 'queued', 'tok', '', ...) then return false end
  local at = redis.call('HMGET', record(id), 'c', 'l')
  join(at[1], line_of(id, at[2]), id, tag)
  set_alarm(id, deadline)
  redis.call('ZADD', WAKE, 0, 'w')
  return true
end

-- requeue_last: the same, behind the jobs that its tenant has in line now.
local function requeue_last(id, from, deadline, ...)
  local job = redis.call('HMGET', record(id), 'c', 'tn', 'co')
  local tag = next_tag(job[1], job[2], tonumber(job[3]) or 1)
  return requeue(id, from, deadline, tag, 'tg', tag, 'qt', now, ...)
end

-- put_off: running -> scheduled, to be queued again after `delay` ms, or to expire if the deadline comes first. `...` are further record fields.
local function put_off(id, delay, deadline, ...)
  move(record(id), 'running', 'scheduled', 'tok', '', 'at', now + delay, ...)
  set_alarm(id, math.min(now + delay, deadline))
  redis.call('ZADD', WAKE, 0, 'w') -- a worker that went to sleep before this would sleep past it
end
