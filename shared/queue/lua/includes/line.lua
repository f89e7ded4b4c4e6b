-- The line of a class: its waiting jobs in the order they will start, fair to the tenants by self-clocked fair queueing.
-- A job's tag is one more than its tenant's last tag, or than the tag served last where that is further on. So a tenant with many jobs waits
-- behind its own, and one that comes with its first job waits behind about one of each other tenant.
local function tags(class) return root .. 'tags:' .. class end
local known_tags = {}

-- next_tag: the place of one more job of this tenant, behind all of its own.
local function next_tag(class, tenant)
  local known = known_tags[class]
  if not known then
    known = {served = tonumber(redis.call('HGET', root .. 'turns', 'served:' .. class)) or 0, last = {}}
    known_tags[class] = known
  end
  local last = known.last[tenant] or tonumber(redis.call('HGET', tags(class), tenant)) or 0
  if known.served > last then last = known.served end -- guard: the time a tenant was away is no credit
  local tag = last + 1
  known.last[tenant] = tag
  redis.call('HSET', tags(class), tenant, tag)
  return tag
end

-- position: how many waiting jobs will start before this one at the latest, plus one; 0 when it does not wait.
local function position(class, id)
  local rank = redis.call('ZRANK', ready(class), id)
  if not rank then return 0 end
  if class ~= 'high' then rank = rank + redis.call('ZCARD', ready('high')) end
  if class == 'low' then rank = rank + redis.call('ZCARD', ready('normal')) end
  return rank + 1
end

-- tidy: a line without jobs needs no memory of who stood where.
local function tidy(class)
  if redis.call('EXISTS', ready(class)) == 0 then redis.call('DEL', tags(class)) end
end

-- pop: the first `count` jobs of a line leave it to be started. Their ids.
local function pop(class, count)
  local popped = redis.call('ZPOPMIN', ready(class), count)
  local served = tonumber(popped[#popped])
  if served > (tonumber(redis.call('HGET', root .. 'turns', 'served:' .. class)) or 0) then -- guard: what came back to the front has an older tag
    redis.call('HSET', root .. 'turns', 'served:' .. class, served)
  end
  tidy(class)
  local ids = {}
  for i = 1, #popped, 2 do ids[#ids + 1] = popped[i] end
  return ids
end

-- leave: a waiting job goes out of its line without having been started.
local function leave(class, id)
  redis.call('ZREM', ready(class), id)
  tidy(class)
end
