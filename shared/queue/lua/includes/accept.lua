-- accept: store a new job and put it in line. The caller made sure that its id is free and the door open.
-- Further arguments are record fields of its own. Returns the job's state, and its tag in line.
local function accept(id, payload, class, kind, model, tenant, timeout, delay, reply_to, keep, fingerprint, metadata, request_id, ttl, line, cost, ...)
  local key = record(id)
  local state = delay > 0 and 'scheduled' or 'queued'
  local deadline = now + timeout
  cost = tonumber(cost)
  local tag = state == 'queued' and next_tag(class, tenant, cost) or ''
  redis.call('HSET', key, 's', state, 'c', class, 'k', kind, 'm', model, 'tn', tenant, 'ct', now, 'tg', tag, 'dl', deadline,
    'rt', reply_to, 'ev', keep, 'fp', fingerprint, 'rq', request_id, 'ttl', ttl, 'pb', #payload, 'l', line, 'co', cost, ...)
  if metadata ~= '' then redis.call('HSET', key, 'md', metadata) end
  redis.call('PEXPIRE', key, timeout + ttl)
  redis.call('SET', payloads .. id, payload, 'PX', timeout + ttl)
  if delay > 0 then
    redis.call('HSET', key, 'at', now + delay)
    redis.call('ZADD', ALARMS, math.min(now + delay, deadline), id)
  else
    join(class, line, id, tag)
    redis.call('ZADD', ALARMS, deadline, id)
  end
  redis.call('ZADD', root .. 'tenant:' .. tenant, now, id)
  redis.call('SADD', root .. 'tenants', tenant)
  -- Another service's model counts under its unit's name, `service~model`: no host of ours is asked for it. The record keeps that name for the end.
  local counted = string.find(line, '~', 1, true) and string.sub(line, 3) or model
  if counted ~= model then redis.call('HSET', key, 'um', counted) end
  hold(tenant, counted, 1, #payload)
  count(state, 1)
  count('accepted', 1)
  return state, tag
end
