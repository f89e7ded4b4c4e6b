-- attach: let a gateway watch a job, and read what the job has said so far, in one step, so that nothing falls between.
-- KEYS     the three roots
-- ARGV[1]  id   ARGV[2]  gateway   ARGV[3]  event id to read after, exclusive, e.g. (3-17, or - for all
-- returns  {record as field, value..., events as XRANGE gives them}; {} when unknown
--@include record
local id, gateway = ARGV[1], ARGV[2]
local key = record(id)
local job = redis.call('HMGET', key, 's', 'rt')
if not job[1] then return {} end
if next(MOVES[job[1]] or {}) and not string.find(' ' .. (job[2] or '') .. ' ', ' ' .. gateway .. ' ', 1, true) then
  redis.call('HSET', key, 'rt', (job[2] or '') .. ' ' .. gateway)
end
return {redis.call('HGETALL', key), redis.call('XRANGE', events(id), ARGV[3], '+')}
