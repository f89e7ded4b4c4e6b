-- passed: a probe succeeded. Closes the circuit for everybody once enough of them have.
-- KEYS  circuit, permit, index
-- ARGV  channel, name, generation the worker knows, permit token, successes it takes, 1 = the worker has closed it itself,
--       worker
-- returns  the circuit's row
--@include circuit
local channel, name, known = ARGV[1], ARGV[2], tonumber(ARGV[3])
local c = read(KEYS[1])
drop_permit(KEYS[2], ARGV[4])
if c.generation > known or c.state == 'closed' then return row(name, c) end -- guard: late results are ignored
if now < c.open_until then return row(name, c) end -- guard: no call of now can have succeeded
c.successes = c.successes + 1
if ARGV[6] == '1' or c.successes >= tonumber(ARGV[5]) then
  c.state, c.open_until, c.worker, c.reason, c.forced = 'closed', 0, ARGV[7], '', ''
  change(KEYS[1], KEYS[3], channel, name, c)
  redis.call('DEL', KEYS[2])
else
  redis.call('HSET', KEYS[1], 'o', c.successes)
  if c.state == '' then redis.call('PEXPIRE', KEYS[1], KEEP_MS) end -- Redis had lost it: a fresh key must not stay for ever
end
return row(name, c)
