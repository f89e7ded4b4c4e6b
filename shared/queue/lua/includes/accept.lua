-- What new jobs of a call add to in common is written once: each tenant's list, the payloads, and the counts of each template.
local listed, arrived, templates_used = {}, {}, {}
local function list(tenant, id)
  listed[tenant] = listed[tenant] or {}
  local of = listed[tenant]
  of[#of + 1] = stamp
  of[#of + 1] = id
end
writers[#writers + 1] = function()
  in_bulk(arrived, 'MSET')
  for tenant, jobs in pairs(listed) do
    in_bulk(jobs, 'ZADD', root .. 'tenant:' .. tenant)
    redis.call('SADD', root .. 'tenants', tenant)
  end
  for _, of in ipairs(templates_used) do
    hold(of.tenant, of.counted, of.jobs, of.bytes)
    count(of.state, of.jobs)
    count('accepted', of.jobs)
  end
end

-- template: what new jobs have in common. `own` are names of fields that each has a value of its own for, `...` further fields of all, name and value in turn.
local function template(class, kind, model, tenant, timeout, delay, line, cost, own, ...)
  local state, deadline = delay > 0 and 'scheduled' or 'queued', text[now + timeout]
  -- Another service's model counts under its unit's name, `service~model`: no host of ours is asked for it. The record keeps that name for the end.
  local counted = string.find(line, '~', 1, true) and string.sub(line, 3) or model
  local alarm = delay > 0 and delay < timeout and text[now + delay] or deadline
  local fields = {'s', state, 'tg', '', 'pb', '', 'c', class, 'k', kind, 'm', model, 'tn', tenant, 'ct', stamp, 'dl', deadline, 'l', line, ...}
  local function put(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  if counted ~= model then put('um', counted) end
  if delay > 0 then put('at', text[now + delay]) end
  local common = #fields
  for _, name in ipairs(own) do put(name, '') end
  local of = {class = class, tenant = tenant, timeout = timeout, delay = delay, line = line, cost = cost, own = own, state = state, counted = counted,
    alarm = alarm, fields = fields, common = common, jobs = 0, bytes = 0}
  templates_used[#templates_used + 1] = of
  return of
end

-- accept: store a new job and put it in line. The caller made sure that there is no record `key` and the door open. `...` are the values of its own.
-- Returns its tag in line, '' if it is scheduled.
local function accept(of, key, id, payload, ...)
  local fields, tag = of.fields, ''
  if of.state == 'queued' then
    tag = next_tag(of.class, of.tenant, of.cost)
    join(of.class, of.line, id, tag)
  end
  fields[4], fields[6] = tag, text[#payload]
  for n = 1, #of.own do fields[of.common + 2 * n] = select(n, ...) end
  redis.call('HSET', key, unpack(fields))
  set_alarm(id, of.alarm)
  arrived[#arrived + 1] = payloads .. id
  arrived[#arrived + 1] = payload
  list(of.tenant, id)
  of.jobs = of.jobs + 1
  of.bytes = of.bytes + #payload
  return tag
end
