-- ring: act on up to `limit` alarms that are due. Returns ms until the next one, at most `horizon`.
--   scheduled and due         -> queued
--   queued and past deadline  -> expired
--   running: its lease ended  -> queued again at the front, unless cancelled, past its deadline, or poison (third crash)
local function ring(limit, horizon)
  local due = redis.call('ZRANGE', ALARMS, '-inf', now + horizon, 'BYSCORE', 'LIMIT', 0, limit, 'WITHSCORES')
  for i = 1, #due, 2 do
    local id, at = due[i], tonumber(due[i + 1])
    if at > now then return at - now end -- guard: nothing before its time
    local key = record(id)
    local job = redis.call('HMGET', key, 's', 'c', 'dl', 'tg', 'x', 'cx', 'n', 'hb', 'l')
    local state, deadline = job[1], tonumber(job[3])
    if not state then -- guard: what is left of a job that Redis lost goes, for nothing else would end it
      set_alarm(id, false)
      drop_payload(id)
      redis.call('DEL', events(id))
    elseif not next(MOVES[state] or {}) then -- a state of another release must not stop the clock for all
      set_alarm(id, false)
      for _, kept in ipairs({key, payloads .. id, events(id)}) do
        if redis.call('PTTL', kept) == -1 then redis.call('PEXPIRE', kept, DEAD_LETTER_MS) end -- nobody here will end it
      end
    elseif state == 'running' then
      local crashes = (tonumber(job[5]) or 0) + 1
      redis.call('HSET', key, 'x', crashes, 'z' .. job[7], 'crashed|' .. now .. '|', 'tok', '')
      count('crashed', 1)
      if job[6] == '1' then -- guard: a cancelled job does not run again
        finish(id, state, 'cancelled', '@job_cancelled', '')
      elseif crashes >= POISON_CRASHES then -- guard: a job that kills its workers is set aside
        finish(id, state, 'dead_lettered', '@job_poisoned', '')
      elseif deadline <= now then -- guard: work nobody waits for is not done
        finish(id, state, 'expired', '@job_timeout', '')
      else
        requeue(id, state, deadline, job[4])
      end
    elseif deadline <= now then -- guard: every job ends by its deadline
      if state == 'queued' then leave(job[2], job[9], id) end
      finish(id, state, 'expired', '@job_timeout', '')
    elseif state == 'scheduled' then
      -- A retry goes to the back of the line; a job that was only handed back has its place still.
      if job[8] and job[8] == job[7] then
        requeue(id, state, deadline, job[4])
      else
        requeue_last(id, state, deadline)
      end
    else
      set_alarm(id, deadline)
    end
  end
  return #due == limit * 2 and 0 or horizon
end
