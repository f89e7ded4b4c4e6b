-- enqueue: accept jobs, each exactly once by its id.
-- KEYS     the three roots
-- ARGV[1]  limits, see includes/admission.lua
-- ARGV[2]  number of templates: what jobs of a call have in common is sent, read and converted once
--          then for each: class, kind, model, tenant, timeout ms, delay ms, line, cost (1: an ordinary job's), f, f values: further fields of the record,
--          name and value in turn; o, o names of fields that each job has a value of its own for
--          then for each job: number of its template, id, payload, its own values
-- returns  now, ms, then four values a job: its state if it was accepted, '=<state>' if it was there already, '!' if another body used the id, '#...'
--          refused; and of a queued one its place, see standing in includes/line.lua, else 0, 0, 0
--@include record
--@include line
--@include admission
--@include accept
local may_enter = door(ARGV[1])
local templates, at = {}, 3
for n = 1, tonumber(ARGV[2]) do
  local class, kind, model, tenant, timeout, delay, line, cost, common = unpack(ARGV, at, at + 8)
  local own = at + 9 + common
  local last = own + ARGV[own]
  templates[n] = template(class, kind, model, tenant, tonumber(timeout), tonumber(delay), line, tonumber(cost), {unpack(ARGV, own + 1, last)},
    unpack(ARGV, at + 9, own - 1))
  at = last + 1
end
local jobs, keys = {}, {}
while ARGV[at] do
  local of = templates[tonumber(ARGV[at])]
  jobs[#jobs + 1] = {of, at + 1}
  keys[#keys + 1] = record(ARGV[at + 1])
  at = at + 3 + #of.own
end
-- Hardly any job was there already, so all are asked for at once; `here` are those that this call brought.
local some_known, here = redis.call('EXISTS', unpack(keys)) > 0, {}
local out, wake = {now}, false
local function answer(i, said, position, in_class, in_line)
  out[4 * i - 2], out[4 * i - 1], out[4 * i], out[4 * i + 1] = said, position or 0, in_class or 0, in_line or 0
end
-- Jobs of one template that follow each other mostly stand together in line.
local runs, run = {}, {}
for i, job in ipairs(jobs) do
  local of, first = job[1], job[2]
  local id, payload = ARGV[first], ARGV[first + 1]
  local known = (some_known or here[id]) and redis.call('HMGET', keys[i], 's', 'fp') or {}
  if known[1] then -- guard: exactly once
    local fingerprint = ''
    for k, name in ipairs(of.own) do
      if name == 'fp' then fingerprint = ARGV[first + 1 + k] end
    end
    answer(i, (known[2] or '') == fingerprint and '=' .. known[1] or '!')
  else
    local refusal = may_enter(of.class, of.tenant, #payload, of.timeout, of.delay)
    if refusal then -- guard: what is refused is not stored
      answer(i, refusal)
    else
      here[id] = true
      wake = true
      local tag = accept(of, keys[i], id, payload, unpack(ARGV, first + 2, first + 1 + #of.own))
      if of.state == 'queued' then
        if run.of ~= of then
          run = {of = of, rows = {}, ids = {}, tags = {}}
          runs[#runs + 1] = run
        end
        local n = #run.ids + 1
        run.rows[n], run.ids[n], run.tags[n] = i, id, tag
      else
        answer(i, of.state)
      end
    end
  end
end
write_lines() -- positions are told of the lines with all of them in it
for _, queued in ipairs(runs) do
  local class, line = queued.of.class, queued.of.line
  local in_line = ranks(class, line, queued.ids)
  for n, i in ipairs(queued.rows) do answer(i, 'queued', standing(class, line, queued.tags[n], in_line[n])) end
end
if wake then redis.call('ZADD', WAKE, 0, 'w') end
write_gathered()
return out
