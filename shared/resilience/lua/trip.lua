-- trip: a worker's circuit opened, by its own count or because its probe failed. Opens it for everybody.
-- KEYS  circuit, permit, index
-- ARGV  channel, name, generation the worker knows (0: none), permit token ('' for none), openings the worker counted,
--       first open time ms, longest open time ms, share taken off it (thousandths), quiet ms, worker, reason
-- returns  the circuit's row; its generation tells whether this trip was taken
--@include circuit
local channel, name, known, token = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local c = read(KEYS[1])
local holder = redis.call('GET', KEYS[2])
if token ~= '' and holder and holder ~= token then return row(name, c) end -- guard: it lost its permit, so it is late
drop_permit(KEYS[2], token)
if c.generation > known then return row(name, c) end -- guard: the calls behind this trip began before the last change
if c.state == 'open' and now < c.open_until then return row(name, c) end -- guard: open times are never added up
local in_a_row = 0
if c.state == 'open' or (c.state == 'closed' and now - c.changed_at < tonumber(ARGV[9])) then in_a_row = c.openings end
c.openings = math.max(in_a_row + 1, tonumber(ARGV[5]))
local open_ms = math.min(tonumber(ARGV[7]), tonumber(ARGV[6]) * 2 ^ math.min(c.openings - 1, 63))
c.open_until = now + math.floor(open_ms * (1000 - tonumber(ARGV[8])) / 1000)
c.state, c.worker, c.reason, c.forced = 'open', ARGV[10], ARGV[11], ''
change(KEYS[1], KEYS[3], channel, name, c)
return row(name, c)
