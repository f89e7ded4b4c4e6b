-- failed: calls failed while the circuit is closed. Opens it for everybody once the fleet has seen enough in a row.
-- KEYS  circuit, row: hash, g generation of the circuit   n failures in a row   b its beginning (unix ms)
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
local f = redis.call('HMGET', KEYS[2], 'g', 'n', 'b')
local first = now - tonumber(ARGV[5])
local failures, began = 0, first
if tonumber(f[1]) == c.generation then failures, began = tonumber(f[2]), tonumber(f[3]) end -- guard: a row ends with a change
if now - tonumber(ARGV[6]) > began then failures, began = 0, first end -- guard: a success anywhere ends the row
failures = failures + tonumber(ARGV[4])
if failures < tonumber(ARGV[7]) then -- guard: it takes as many as tell
  redis.call('HSET', KEYS[2], 'g', c.generation, 'n', failures, 'b', began)
  redis.call('PEXPIRE', KEYS[2], ARGV[8])
  return row(name, c)
end
redis.call('DEL', KEYS[2])
open_circuit(KEYS[1], KEYS[3], channel, name, c, 1, ARGV, 9)
return row(name, c)
