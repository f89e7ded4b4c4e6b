-- order: an operator opens or closes a circuit.
-- KEYS  circuit, permit, index
-- ARGV  channel, name, open | closed, open for ms
-- returns  the circuit's row
--@include circuit
local channel, name, state = ARGV[1], ARGV[2], ARGV[3]
local c = read(KEYS[1])
c.state, c.openings, c.worker = state, 0, 'operator'
if state == 'open' then
  c.open_until, c.reason, c.forced = now + tonumber(ARGV[4]), 'forced', '1'
else
  c.open_until, c.reason, c.forced = 0, '', ''
end
change(KEYS[1], KEYS[3], channel, name, c)
redis.call('DEL', KEYS[2])
return row(name, c)
