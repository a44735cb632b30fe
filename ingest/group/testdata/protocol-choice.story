# The protocol that all know and most want first; the leader decides a tie. Without one in common nobody comes in.
join a protocols=one:a,two:a,three:a
  store generation 1 of 1, consumer/one
  CompletingRebalance
join b protocols=two:b,three:b
  PreparingRebalance
join c protocols=three:c,two:c
stored
  store generation 2 of 3, consumer/two
  CompletingRebalance
stored
  a: is a1 in generation 2, two, leader a1 a1:a b2:b c3:c
  b: is b2 in generation 2, two, leader a1
  c: is c3 in generation 2, two, leader a1
sync a type=other
  a: INCONSISTENT_GROUP_PROTOCOL (the group chose "two" of type "consumer")
sync a protocol=one
  a: INCONSISTENT_GROUP_PROTOCOL (the group chose "two" of type "consumer")
sync a protocol=two type=consumer
  a: synced two ""
  Stable
join d protocols=one:d
  d: INCONSISTENT_GROUP_PROTOCOL (no protocol that all members know)
join d protocols=two:d type=connect
  d: INCONSISTENT_GROUP_PROTOCOL (the group has members of another kind)
join d protocols=two:d,two:e
  d: INVALID_REQUEST (protocol "two" is there twice)
join d protocols=:d
  d: INVALID_REQUEST (a protocol's name has between 1 and 255 bytes)
# a cannot change to what the others do not know
join a protocols=one:a
  a: INCONSISTENT_GROUP_PROTOCOL (no protocol that all members know)
