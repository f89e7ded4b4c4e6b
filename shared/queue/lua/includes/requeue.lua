-- requeue: running or scheduled -> queued. `score` places it: its creation time (front) or now_us (back).
local function requeue(id, from, class, deadline, score, ...)
  if not move(record(id), from, 'queued', 'tok', '', ...) then return false end
  redis.call('ZADD', ready(class), score, id)
  redis.call('ZADD', ALARMS, deadline, id)
  redis.call('ZADD', WAKE, 0, 'w')
  return true
end
