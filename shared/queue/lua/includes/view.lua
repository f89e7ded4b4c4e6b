-- view: what plans are made from: {now ms, lines, slots, hosts, tenures}.
--   lines  {class, line, waiting jobs, since when its first job waits (ms), ...} of those that are furthest behind, and some of the others, other ones each time
--   slots  {host or 'host|unit', calls under way in thousandths, ...}
--   hosts  {host, what a worker saw there last (msgpack, shared/queue/sightings.py), ...}
--   tenures {host, number of jobs that made it load a model, ...}
local FIRST, OTHERS = 48, 16 -- lines of a class

-- lines_in_view: of more lines than a view shows the first may all wait for one slow host, while others could start elsewhere. So no line stays unseen for long.
local function lines_in_view(class)
  local shown, more = redis.call('ZRANGE', lines(class), 0, FIRST - 1), redis.call('ZCARD', lines(class)) - FIRST
  if more <= 0 then return shown end
  local from = FIRST + now % math.max(1, more - OTHERS + 1)
  for _, line in ipairs(redis.call('ZRANGE', lines(class), from, from + OTHERS - 1)) do shown[#shown + 1] = line end
  return shown
end

local function view()
  local seen = {}
  for _, class in ipairs(CLASSES) do
    for _, line in ipairs(lines_in_view(class)) do
      local first = redis.call('ZRANGE', line_key(class, line), 0, 0)[1]
      local since = redis.call('HMGET', record(first), 'qt', 'ct')
      for _, value in ipairs({class, line, redis.call('ZCARD', line_key(class, line)), tonumber(since[1] or since[2]) or now}) do seen[#seen + 1] = value end
    end
  end
  return {now, seen, redis.call('HGETALL', SLOTS), redis.call('HGETALL', root .. 'hosts'), redis.call('HGETALL', TENURES)}
end
