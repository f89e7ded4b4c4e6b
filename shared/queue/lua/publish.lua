-- publish: append chunks to their jobs' event streams and to the inboxes of those who watch.
-- KEYS     the three roots
-- ARGV     rows of: id, token, attempt, seq, chunk
-- returns  one string an item: '' written, '!' refused as stale, 'c' written, but the job is to be cancelled
--@include record
local out = {}
items(1, 5, function(i, id, token, attempt, seq, chunk)
  local job = redis.call('HMGET', record(id), 'tok', 's', 'rt', 'ev', 'cx')
  if job[1] ~= token or job[2] ~= 'running' then -- guard: fence
    out[i] = '!'
    count('stale_writes', 1)
  else
    if job[4] == '1' then log_event(id, attempt, seq, 't', 'c', 'd', chunk) end
    tell(job[3], 'j', id, 't', 'c', 'a', attempt, 'q', seq, 'd', chunk)
    out[i] = job[5] == '1' and 'c' or ''
  end
end)
write_gathered()
return out
