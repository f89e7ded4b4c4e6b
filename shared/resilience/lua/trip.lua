-- trip: a worker's circuit opened, by its own count or because its probe failed. Opens it for everybody.
-- KEYS  circuit, permit, index
-- ARGV  channel, name, generation the worker knows (0: none), permit token ('' for none), openings the worker counted,
--       first open time ms, longest open time ms, share taken off it (thousandths), quiet ms, worker, reason
-- returns  the circuit's row; its generation tells whether this trip was taken
--@include circuit
--@include opening
local channel, name, known, token = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local c = read(KEYS[1])
local holder = redis.call('GET', KEYS[2])
if token ~= '' and holder and holder ~= token then return row(name, c) end -- guard: it lost its permit, so it is late
drop_permit(KEYS[2], token)
if c.generation > known then return row(name, c) end -- guard: the calls behind this trip began before the last change
if now < c.open_until then return row(name, c) end -- guard: open times are never added up
open_circuit(KEYS[1], KEYS[3], channel, name, c, tonumber(ARGV[5]), ARGV, 6)
return row(name, c)
