-- keep_fields: write fields of a hash or members of a sorted set, and let the key live on; never one without the other.
-- KEYS[1]  the key
-- ARGV[1]  life, s   ARGV[2]  HSET or ZADD   ARGV[3]...  pairs as that command takes them
redis.call(ARGV[2], KEYS[1], unpack(ARGV, 3))
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 1
