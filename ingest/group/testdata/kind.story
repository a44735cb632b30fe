# The only member may become something else.
join a topics=t counts=t:1
  store generation 1 of 1, cooperative-sticky
  CompletingRebalance
stored
  a: is a1 in generation 1, has t:0
  Stable
join a protocols=range:a
  store generation 2 of 1, consumer/range
  CompletingRebalance
stored
  a: is a1 in generation 2, range, leader a1 a1:a
sync a assign=a:x
  a: synced range "x"
  Stable
describe
  g Stable generation 2, consumer/range
  a1 (client-a at host) wants "a" has "x"
join b topics=t
  b: INCONSISTENT_GROUP_PROTOCOL (the group has members of another kind)
join a topics=t counts=t:1 owned=nothing
  store generation 3 of 1, cooperative-sticky
  CompletingRebalance
stored
  a: is a1 in generation 3, has t:0
  Stable
describe
  g Stable generation 3, cooperative-sticky
  a1 (client-a at host) wants t has t:0 target t:0
