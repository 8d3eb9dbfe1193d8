-- Changes entries of one partition together with its position, only from the position that is expected there.
-- KEYS: the position, the entries. ARGV: the position from, the position to; for each entry its value ("" removes it) and
-- the time in milliseconds at which it ends ("" for never). Answers 1, or 0 and the position that is there.
local found = redis.call('MGET', KEYS[1])[1] or ''
if found ~= ARGV[1] then
  return {0, found}
end
for i = 2, #KEYS do
  local value, ends = ARGV[2 * i - 1], ARGV[2 * i]
  if value == '' then
    redis.call('DEL', KEYS[i])
  else
    redis.call('SET', KEYS[i], value)
    -- An entry that has ended is gone with this.
    if ends ~= '' then
      redis.call('PEXPIREAT', KEYS[i], ends)
    end
  end
end
redis.call('SET', KEYS[1], ARGV[2])
return {1, ''}
