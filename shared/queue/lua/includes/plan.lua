-- A worker's plan: which lines may start on which hosts now. Made by worker/scheduling, carried out here against what the whole fleet has under way.
-- '' means that any line may start, without a host. Else msgpack of {hosts, rows}:
--   hosts  {{name, most calls at once, its tenure when the plan was made}...}; a tenure ends when a job is started that makes the host load a model:
--          plans from before do not know what becomes of the others there, and start nothing on it any more
--   rows   {{line, most jobs in one call, calls from which on only a full batch starts, longest wait for a full one (ms), {place...}}...}
--   place  {number of the host in hosts from 1, unit, most calls at once, the same for classes but high, tier, weight, 1 if it must be loaded there}
-- A row without places starts its jobs without a host. Of the places with room those of the least tier count, and of them the one where the next call is expected to be done first: calls under way x weight.
local CALL = 1000 -- a call, in slots' thousandths
local MOST_LINES = 64 -- that one claim looks at, without a plan

local function read_plan(packed)
  if packed == '' then
    return {loads = {}, queues = function(class)
      local found, heads = {}, redis.call('ZRANGE', lines(class), 0, MOST_LINES - 1, 'WITHSCORES')
      for i = 1, #heads, 2 do found[#found + 1] = {class = class, line = heads[i], head = tonumber(heads[i + 1]), taken = 0} end
      return found
    end}
  end
  local hosts, rows = unpack(cmsgpack.unpack(packed))
  local names, fields = {}, {}
  for i, host in ipairs(hosts) do fields[i] = host[1] end
  for i, row in ipairs(rows) do
    names[i] = row[1]
    for _, place in ipairs(row[5]) do
      place.host = hosts[place[1]][1]
      place.slot = place.host .. '|' .. place[2]
      fields[#fields + 1] = place.slot
    end
  end
  local plan = {rows = rows, room = {}, used = {}, loads = {}}
  for _, host in ipairs(hosts) do plan.room[host[1]] = host[2] * CALL end
  for first = 1, #fields, 1000 do
    local known = redis.call('HMGET', SLOTS, unpack(fields, first, math.min(first + 999, #fields)))
    for i, calls in ipairs(known) do plan.used[fields[first + i - 1]] = tonumber(calls) or 0 end
  end
  for i, tenure in ipairs(#hosts > 0 and redis.call('HMGET', TENURES, unpack(fields, 1, #hosts)) or {}) do
    if (tonumber(tenure) or 0) ~= hosts[i][3] then plan.room[hosts[i][1]] = 0 end -- guard: an old plan starts no calls
  end
  plan.queues = function(class)
    if #names == 0 or waiting_jobs(class) == 0 then return {} end
    local found = {}
    for i, head in ipairs(redis.call('ZMSCORE', lines(class), unpack(names))) do
      if head then found[#found + 1] = {class = class, line = names[i], row = rows[i], head = tonumber(head), taken = 0} end
    end
    return found
  end
  return plan
end

-- place_for: where a line's next call goes; nil when no place has room.
local function place_for(queue, plan)
  local best, least, tier
  for _, place in ipairs(queue.row[5]) do
    local most = queue.class == 'high' and place[3] or place[4]
    if plan.used[place.slot] + CALL <= most * CALL and plan.used[place.host] + CALL <= plan.room[place.host] then -- guard: a host gets what it can run
      local load = (plan.used[place.host] + CALL) * place[6]
      if not best or place[5] < tier or (place[5] == tier and load < least) then best, least, tier = place, load, place[5] end
    end
  end
  return best
end

-- ids_of: the ids of a line's first jobs, at least `count` more than were taken if there are as many.
local function ids_of(queue, count)
  local wanted = queue.taken + count
  if wanted > (queue.read or 0) then
    if queue.read then wanted = math.max(wanted, 2 * queue.read) end -- each reading begins anew, so few of them are best
    queue.ids, queue.tags, queue.read = {}, {}, wanted
    local first = redis.call('ZRANGE', line_key(queue.class, queue.line), 0, wanted - 1, 'WITHSCORES')
    for i = 1, #first, 2 do
      queue.ids[#queue.ids + 1] = first[i]
      queue.tags[#queue.tags + 1] = tonumber(first[i + 1])
    end
  end
  return queue.ids
end

-- waits_to_fill: whether a batch that is not full should wait for more: only where calls are under way whose end frees the slots again.
local function waits_to_fill(queue, place, plan)
  local row = queue.row
  if row[2] < 2 or plan.used[place.slot] < row[3] * CALL then return false end
  local ids = ids_of(queue, row[2])
  if #ids - queue.taken >= row[2] then return false end
  local first = ids[queue.taken + 1]
  local since = first and redis.call('HMGET', record(first), 'qt', 'ct') or {}
  return now - (tonumber(since[1] or since[2]) or now) < row[4]
end

-- next_queue: the line of a class that starts next, and where; nil when none can.
local function next_queue(class, queues, plan)
  local best, where
  for _, queue in ipairs(queues) do
    if queue.head and (not best or queue.head < best.head) then
      local anywhere = not queue.row or #queue.row[5] == 0
      local place = not anywhere and place_for(queue, plan) or nil
      if anywhere or (place and not waits_to_fill(queue, place, plan)) then best, where = queue, place end
    end
  end
  return best, where
end

-- take: the ids of a line's next call. `most` is how many jobs the claim may still need at most.
local function take(queue, place, plan, most)
  local batch = place and queue.row[2] or 1
  if not queue.read then ids_of(queue, math.min(most * batch, 1000) + 1) end
  local ids, call = ids_of(queue, batch + 1), {}
  for i = queue.taken + 1, math.min(queue.taken + batch, #ids) do call[#call + 1] = ids[i] end
  queue.taken = queue.taken + #call
  queue.head = queue.tags[queue.taken + 1]
  if place then
    plan.used[place.slot] = plan.used[place.slot] + CALL
    plan.used[place.host] = plan.used[place.host] + CALL
    if place[7] == 1 then plan.loads[place.host] = true end
  end
  return call
end
