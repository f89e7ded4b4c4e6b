-- failed: calls failed while the circuit is closed. Opens it for everybody once the fleet has seen enough in a row.
-- Only who fails tells, and tells of its latest success with it: the successes of all others are not known here, so where calls fail
-- by chance a row can look longer than it is. It must therefore be twice as long as the longest that a success has ended of late.
-- KEYS  circuit, row: hash, g generation of the circuit   n failures in a row   b its beginning (unix ms)
--       s latest success told of   l longest row that a success has ended   e when it ended
--       index
-- ARGV  channel, name, generation the worker knows (0: none), failures to count, ms since the first of them,
--       ms since the worker's latest success, failures that tell, life of the row ms,
--       first open time ms, longest open time ms, share taken off it (thousandths), quiet ms, worker, reason
-- returns  the circuit's row
--@include circuit
--@include opening
local channel, name, known = ARGV[1], ARGV[2], tonumber(ARGV[3])
local c = read(KEYS[1])
if c.generation > known or c.state == 'open' then return row(name, c) end -- guard: only calls of now, only of closed circuits
local f = redis.call('HMGET', KEYS[2], 'g', 'n', 'b', 's', 'l', 'e')
if tonumber(f[1]) ~= c.generation then f = {} end -- guard: a row ends with a change
local first, success = now - tonumber(ARGV[5]), math.max(now - tonumber(ARGV[6]), tonumber(f[4]) or 0)
local failures, began = tonumber(f[2]) or 0, tonumber(f[3]) or first
local longest, ended = tonumber(f[5]) or 0, tonumber(f[6]) or 0
if now - ended > tonumber(ARGV[8]) then longest = 0 end -- guard: what was long ago says nothing
if success > began then -- guard: a success anywhere ends the row
  if failures >= longest then longest, ended = failures, now end -- guard: the longest counts
  failures, began = 0, first
end
if first >= success then failures = failures + tonumber(ARGV[4]) end -- guard: told late, it is of a row that has ended
if failures < math.max(tonumber(ARGV[7]), 2 * longest) then -- guard: it takes as many as tell
  redis.call('HSET', KEYS[2], 'g', c.generation, 'n', failures, 'b', began, 's', success, 'l', longest, 'e', ended)
  redis.call('PEXPIRE', KEYS[2], ARGV[8])
  return row(name, c)
end
redis.call('DEL', KEYS[2])
open_circuit(KEYS[1], KEYS[3], channel, name, c, 1, ARGV, 9)
return row(name, c)
