-- settle: a worker's last word on runs: an end, a retry, or a hand-back.
-- KEYS     the three roots
-- ARGV     rows of: id, token, verdict, error, result, delay ms, attempt notes (msgpack)
--          verdict: succeeded | dead_lettered | cancelled | expired | retried | released (with a delay: scheduled, at its place in line when due)
-- returns  one string an item: the job's state now; '!' refused as stale; '=<state>' was settled by this very token before
--@include record
--@include ending
--@include line
--@include requeue
local OUTCOME = {dead_lettered = 'failed', released = 'drained'}
local out = {}
items(1, 7, function(i, id, token, verdict, error, result, delay, notes)
  delay = tonumber(delay)
  local key = record(id)
  local job = redis.call('HMGET', key, 's', 'tok', 'n')
  local state = job[1]
  if job[2] ~= token then -- guard: fence
    out[i] = '!'
    count('stale_writes', 1)
  elseif state ~= 'running' then -- guard: one end
    out[i] = '=' .. state
  else
    local back = verdict == 'released' and delay > 0
    local outcome = back and 'handed_back' or OUTCOME[verdict] or verdict
    local end_field, ended = 'z' .. job[3], outcome .. '|' .. stamp .. '|' .. notes
    local again = verdict == 'retried' or verdict == 'released'
    local its = again and redis.call('HMGET', key, 'dl', 'tg', 'f', 'cx', 'hb') or {} -- an end needs none of them
    local deadline = tonumber(its[1])
    if its[4] == '1' then -- guard: a cancelled job does not run again
      finish(id, state, 'cancelled', '@job_cancelled', '', end_field, ended)
      out[i] = 'cancelled'
    elseif verdict == 'retried' then
      count('retried', 1)
      local failures = (tonumber(its[3]) or 0) + 1
      if deadline <= now + delay then -- guard: no retry past the deadline
        finish(id, state, 'dead_lettered', error, result, end_field, ended, 'f', failures)
        out[i] = 'dead_lettered'
      elseif delay > 0 then
        put_off(id, delay, deadline, end_field, ended, 'f', failures, 'er', error)
        out[i] = 'scheduled'
      else
        requeue_last(id, state, deadline, end_field, ended, 'f', failures, 'er', error)
        out[i] = 'queued'
      end
    elseif verdict == 'released' then
      count('released', 1)
      if back then -- guard: a delay is kept
        -- A job may be handed back for hours, so its record keeps only the latest such run.
        if its[5] then redis.call('HDEL', key, 'a' .. its[5], 'z' .. its[5]) end
        put_off(id, delay, deadline, end_field, ended, 'hb', job[3])
        out[i] = 'scheduled'
      else
        requeue(id, state, deadline, its[2], end_field, ended)
        out[i] = 'queued'
      end
    else
      finish(id, state, verdict, error, result, end_field, ended)
      out[i] = verdict
    end
  end
end)
write_gathered()
return out
