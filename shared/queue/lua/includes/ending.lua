-- finish: the one end of a job. Writes the state, the error, the result, drops what only a live job needs, tells who waits. What stays gets its lifetime here:
-- an unfinished job has none, since its alarm sees to its end, however long nobody was there to hear it.
-- A dead letter keeps its payload, so that it can be replayed, and its record as long.
-- `error` is msgpack of an ErrorRecord or '@code'; `result` is the stored form (arq's) or ''. `...` are further record fields.
local function finish(id, from, to, error, result, ...)
  local key = record(id)
  local known = redis.call('HMGET', key, 'rt', 'ttl', 'n', 'sa', 'ct', 'ev', 'tn', 'pb', 'm', 'um')
  local moved
  if to == 'succeeded' then moved = move(key, from, to, 'ea', stamp, ...) else moved = move(key, from, to, 'ea', stamp, 'er', error, ...) end
  if not moved then return false end
  local ttl = known[2] or '3600000'
  hold(known[7] or '', known[10] or known[9] or '', -1, -(tonumber(known[8]) or 0))
  set_alarm(id, false)
  if to == 'dead_lettered' then -- guard: what failed for good can be looked at and replayed
    local keep = tonumber(redis.call('HGET', LOAD, 'keep')) or DEAD_LETTER_MS
    redis.call('ZADD', DEAD, stamp, id)
    redis.call('PEXPIRE', payloads .. id, keep)
    redis.call('PEXPIRE', key, math.max(tonumber(ttl), keep))
  else
    drop_payload(id)
    redis.call('PEXPIRE', key, ttl)
  end
  if known[6] == '1' then redis.call('PEXPIRE', events(id), ttl) end
  if result ~= '' then redis.call('SET', results .. id, result, 'PX', ttl) end
  if known[1] then
    local started = tonumber(known[4]) or now
    tell(known[1], 'j', id, 't', 'e', 's', to, 'er', error, 'd', #result <= INLINE_BYTES and result or '',
      'a', known[3] or 0, 'qm', started - (tonumber(known[5]) or started), 'rm', now - started)
  end
  return true
end
