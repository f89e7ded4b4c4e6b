-- The lines: in each class one for each model and manner of use, so that a job that cannot start now stands in nobody's way.
-- A line has its waiting jobs by tag, the order in which they start: self-clocked fair queueing. A job's tag is its cost more than its tenant's last tag,
-- or than the tag served last where that is further on. So a tenant with much work waits behind its own, and one that comes with its first job waits behind
-- about one job of each other tenant. Tags count over all lines of a class, so the heads of its lines compare.
local CLASSES = {'high', 'normal', 'low'}
local function line_key(class, line) return root .. 'line:' .. class .. ':' .. line end
local function lines(class) return root .. 'lines:' .. class end -- line -> tag of its first job
local function tags(class) return root .. 'tags:' .. class end

-- line_of: the line of a job; one of a release without lines has none in its record.
local function line_of(id, line)
  if line then return line end
  local job = redis.call('HMGET', record(id), 'k', 'm')
  return (job[1] == 'embedding' and 'e:' or 't:') .. string.gsub(string.lower(job[2]), ':latest$', '')
end

-- waiting_jobs: how many wait in a class now.
local depth
local function waiting_jobs(class)
  if not depth then
    local known = redis.call('HMGET', DEPTH, 'high', 'normal', 'low')
    depth = {high = tonumber(known[1]) or 0, normal = tonumber(known[2]) or 0, low = tonumber(known[3]) or 0}
  end
  return depth[class] + deeper[class]
end

-- next_tag: the place of one more job of this tenant, behind all of its own.
local known_tags = {}
local function next_tag(class, tenant, cost)
  local known = known_tags[class]
  if not known then
    known = {served = tonumber(redis.call('HGET', root .. 'turns', 'served:' .. class)) or 0, last = {}, new = {}}
    known_tags[class] = known
  end
  local last = known.last[tenant] or tonumber(redis.call('HGET', tags(class), tenant)) or 0
  if known.served > last then last = known.served end -- guard: the time a tenant was away is no credit
  local tag = last + cost
  known.last[tenant] = tag
  known.new[tenant] = string.format('%.17g', tag) -- all of it, since tags are compared
  return known.new[tenant]
end

-- join: a job waits from now on. Those of a call are written together: by its end, or before its lines are read.
local joining = {}
local function join(class, line, id, tag)
  joining[class] = joining[class] or {}
  local jobs, place = joining[class][line] or {least = math.huge}, tonumber(tag)
  joining[class][line] = jobs
  jobs[#jobs + 1] = tag
  jobs[#jobs + 1] = id
  if place < jobs.least then jobs.least, jobs.head = place, tag end
  deepen(class, 1)
end
local function write_lines()
  for class, of in pairs(joining) do
    for line, jobs in pairs(of) do
      in_bulk(jobs, 'ZADD', line_key(class, line))
      redis.call('ZADD', lines(class), 'LT', jobs.head, line)
    end
  end
  joining = {}
  for class, known in pairs(known_tags) do
    local new = {}
    for tenant, tag in pairs(known.new) do
      new[#new + 1] = tenant
      new[#new + 1] = tag
    end
    in_bulk(new, 'HSET', tags(class))
    known.new = {}
  end
end
writers[#writers + 1] = write_lines

-- standing: how many jobs of its own and higher classes have the right to start before one with this tag, which is at `in_line` (from 0) of its line, plus
-- one. Then how many of those are of its class, and of its line. Reads a class' lines once a call, so the lines must not change any more.
local HEADS = 50 -- lines of a class that are looked at
local heads = {}
local function standing(class, line, tag, in_line)
  heads[class] = heads[class] or redis.call('ZRANGE', lines(class), 0, HEADS - 1, 'WITHSCORES')
  local of, before, place = heads[class], in_line, tonumber(tag)
  for i = 1, #of, 2 do
    if tonumber(of[i + 1]) >= place then break end
    if of[i] ~= line then before = before + redis.call('ZCOUNT', line_key(class, of[i]), '-inf', '(' .. tag) end
  end
  local in_class = before
  if class ~= 'high' then before = before + waiting_jobs('high') end
  if class == 'low' then before = before + waiting_jobs('normal') end
  return before + 1, in_class, in_line
end

-- ranks: the places in line of waiting jobs that have their tags in this order, from 0.
local function ranks(class, line, ids)
  local key, found = line_key(class, line), {}
  local first, last = redis.call('ZRANK', key, ids[1]), redis.call('ZRANK', key, ids[#ids])
  local together = last - first == #ids - 1 -- nobody stands between them, so it need not be asked where each one is
  for i, id in ipairs(ids) do found[i] = together and first + i - 1 or redis.call('ZRANK', key, id) end
  return found
end

-- head_changed: what a line's first job is now; a class without jobs needs no memory of who stood where.
local function head_changed(class, line)
  write_lines()
  local head = redis.call('ZRANGE', line_key(class, line), 0, 0, 'WITHSCORES')
  if head[2] then
    redis.call('ZADD', lines(class), head[2], line)
  else
    redis.call('ZREM', lines(class), line)
    if redis.call('EXISTS', lines(class)) == 0 then redis.call('DEL', tags(class)) end
  end
end

-- pop: the first `count` jobs of a line leave it to be started.
local function pop(class, line, count)
  local popped = redis.call('ZPOPMIN', line_key(class, line), count)
  local served = tonumber(popped[#popped])
  if served > (tonumber(redis.call('HGET', root .. 'turns', 'served:' .. class)) or 0) then -- guard: what came back to the front has an older tag
    redis.call('HSET', root .. 'turns', 'served:' .. class, served)
  end
  head_changed(class, line)
  deepen(class, -#popped / 2)
end

-- leave: a waiting job goes out of its line without having been started.
local function leave(class, line, id)
  line = line_of(id, line)
  deepen(class, -redis.call('ZREM', line_key(class, line), id))
  head_changed(class, line)
end
