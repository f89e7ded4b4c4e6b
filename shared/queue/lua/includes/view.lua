-- view: what plans are made from: {now ms, lines, slots, hosts, tenures}.
--   lines  {class, line, waiting jobs, since when its first job waits (ms), ...} of those that are furthest behind
--   slots  {host or 'host|unit', calls under way in thousandths, ...}
--   hosts  {host, what a worker saw there last (msgpack, shared/queue/sightings.py), ...}
--   tenures {host, number of jobs that made it load a model, ...}
local function view()
  local seen = {}
  for _, class in ipairs(CLASSES) do
    for _, line in ipairs(redis.call('ZRANGE', lines(class), 0, 63)) do
      local first = redis.call('ZRANGE', line_key(class, line), 0, 0)[1]
      local since = redis.call('HMGET', record(first), 'qt', 'ct')
      for _, value in ipairs({class, line, redis.call('ZCARD', line_key(class, line)), tonumber(since[1] or since[2]) or now}) do seen[#seen + 1] = value end
    end
  end
  return {now, seen, redis.call('HGETALL', SLOTS), redis.call('HGETALL', root .. 'hosts'), redis.call('HGETALL', TENURES)}
end
