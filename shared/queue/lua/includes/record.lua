-- Shared head of every script: the keys' roots, Redis' own clock, the state table, counters.
-- KEYS[1]  gw:{shard}:            root of the shard's own keys
-- KEYS[2]  arq:job:{shard}        root of payload keys
-- KEYS[3]  arq:result:{shard}     root of result keys
-- Keys of single jobs are made here from these roots and an id: all of them carry the shard's hash tag, so they share one slot.
local root, payloads, results = KEYS[1], KEYS[2], KEYS[3]
local clock = redis.call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now = math.floor(now_us / 1000)
local stamp = string.format('%d', now) -- now as it is stored: to hand a number to Redis costs more than the text of it
-- Other numbers that a call stores over and over are made text of once: text[attempt].
local text = setmetatable({}, {__index = function(made, number)
  made[number] = string.format('%d', number)
  return made[number]
end})
local ALARMS = root .. 'alarms'
local WAKE = root .. 'wake'
local DEAD = root .. 'dlq'
local LOAD = root .. 'load'
local DEPTH = root .. 'depth'
local SLOTS = root .. 'slots'
local SHARED_CALLS = root .. 'shared-calls'
local TENURES = root .. 'tenures'
local INLINE_BYTES = 65536 -- a larger result is fetched by the gateway instead of travelling through its inbox

-- items: ARGV from `first` on, in rows of `width`; calls fn(i, field...) for each.
local function items(first, width, fn)
  for i = 1, (#ARGV - first + 1) / width do
    local at = first + (i - 1) * width
    fn(i, unpack(ARGV, at, at + width - 1))
  end
end

-- in_bulk: one command for any number of values, which costs Redis and its append-only file less than one for each. Lua hands over 8000 at most.
-- `key` and `option` go before the values, where the command has them.
local BULK = 4000
local function in_bulk(values, command, key, option)
  for first = 1, #values, BULK do
    local last = math.min(first + BULK - 1, #values)
    if option then
      redis.call(command, key, option, unpack(values, first, last))
    elseif key then
      redis.call(command, key, unpack(values, first, last))
    else
      redis.call(command, unpack(values, first, last))
    end
  end
end

-- What many jobs change in one key is gathered and written once a call; a script that has to read it before that writes it first.
-- When each job must be looked at next (ms); false: never again. The last word counts.
local alarms = {}
local function set_alarm(id, at) alarms[id] = at end
local function write_alarms()
  local due, over = {}, {}
  for id, at in pairs(alarms) do
    if at then
      due[#due + 1] = at
      due[#due + 1] = id
    else
      over[#over + 1] = id
    end
  end
  alarms = {}
  in_bulk(due, 'ZADD', ALARMS)
  in_bulk(over, 'ZREM', ALARMS)
end
-- So are the payloads that nobody needs any more,
local dropped = {}
local function drop_payload(id) dropped[#dropped + 1] = payloads .. id end
-- what the other parts gather, each written by a function of its own,
local writers = {}
-- the changes of counters,
local changes = {}
local function count(name, by) changes[name] = (changes[name] or 0) + by end
-- and of what the shard holds: unfinished jobs of each tenant and for each model, and the bytes of their payloads.
local held_bytes, held_jobs, held_models = 0, {}, {}
local function hold(tenant, model, jobs, bytes)
  held_jobs[tenant] = (held_jobs[tenant] or 0) + jobs
  held_models[model] = (held_models[model] or 0) + jobs
  held_bytes = held_bytes + bytes
end
-- A tenant or model without jobs takes no room.
local function write_held(key, held)
  for name, by in pairs(held) do
    if by ~= 0 and redis.call('HINCRBY', key, name, by) <= 0 then redis.call('HDEL', key, name) end
  end
end
-- of how many jobs wait in each class,
local deeper = {high = 0, normal = 0, low = 0}
local function deepen(class, by) deeper[class] = deeper[class] + by end
-- and of the calls under way, in thousandths: of a host, and of a unit, which is a model in the memory of a host.
local taken = {}
local function use(slot, sign)
  local host, unit, thousandths = string.match(slot, '^([^|]*)|([^|]*)|(%d+)$')
  for _, name in ipairs({host, host .. '|' .. unit}) do taken[name] = (taken[name] or 0) + sign * thousandths end
end
-- The jobs of a batch share one call, which is under way as long as any of them runs, so the host gets no other one in its place.
local sharers = {}
local function share(call, by)
  sharers[call] = (sharers[call] or tonumber(redis.call('HGET', SHARED_CALLS, call)) or 0) + by
  return sharers[call]
end
-- take_call, give_back: a run begins or ends to use the call in this slot; `call` names one that it shares.
local function take_call(slot, call)
  if not call or share(call, 1) == 1 then use(slot, 1) end -- guard: one call for all who share it
end
local function give_back(slot, call)
  if not call or share(call, -1) == 0 then use(slot, -1) end -- guard: the last one gives it back
end
local function write_gathered()
  write_alarms()
  in_bulk(dropped, 'DEL')
  for _, write in ipairs(writers) do write() end
  for name, by in pairs(changes) do
    if by ~= 0 then redis.call('HINCRBY', root .. 'counters', name, by) end
  end
  if held_bytes ~= 0 then redis.call('HINCRBY', LOAD, 'bytes', held_bytes) end
  write_held(root .. 'unfinished', held_jobs)
  write_held(root .. 'unfinished-models', held_models)
  for class, by in pairs(deeper) do
    if by ~= 0 then redis.call('HINCRBY', DEPTH, class, by) end
  end
  for call, jobs in pairs(sharers) do
    if jobs > 0 then redis.call('HSET', SHARED_CALLS, call, jobs) else redis.call('HDEL', SHARED_CALLS, call) end
  end
  local freed = false
  for name, by in pairs(taken) do
    if by ~= 0 and redis.call('HINCRBY', SLOTS, name, by) <= 0 then redis.call('HDEL', SLOTS, name) end
    freed = freed or by < 0
  end
  if freed and redis.call('EXISTS', root .. 'lines:high', root .. 'lines:normal', root .. 'lines:low') > 0 then
    redis.call('ZADD', WAKE, 0, 'w') -- whoever frees a slot may not be there to use it
  end
end

local function record(id) return root .. 'j:' .. id end
local function events(id) return root .. 'events:' .. id end

-- move: the only place that writes a state. False, and nothing written, if the table has no such move.
-- A job holds a slot just as long as it runs, whoever ends that, so no slot can be lost.
local function move(key, from, to, ...)
  if not (MOVES[from] or {})[to] then return false end -- guard: state table
  redis.call('HSET', key, 's', to, ...)
  if from == 'running' then
    local slot, call = unpack(redis.call('HMGET', key, 'h', 'sc'))
    if slot then -- guard: a slot is given back
      give_back(slot, call)
      redis.call('HDEL', key, 'h', 'sc')
    end
  end
  count(from, -1)
  count(to, 1)
  return true
end

-- tell: append one event to the inbox of every gateway that watches the job. A dead gateway's inbox is not made anew.
local function tell(watchers, ...)
  for gateway in string.gmatch(watchers or '', '%S+') do
    redis.call('XADD', root .. 'inbox:' .. gateway, 'NOMKSTREAM', 'MAXLEN', '~', '20000', '*', ...) -- guard: no inbox without a reader
  end
end

-- log_event: append to the job's own event stream, under the explicit id attempt-seq. A repeated or older id is refused by Redis.
local function log_event(id, attempt, seq, ...)
  return redis.pcall('XADD', events(id), attempt .. '-' .. seq, ...)
end
