# Eager members have nothing while they join, so everything is given out in one generation.
join a topics=t,u strategy=range counts=t:3,u:3
  store generation 1 of 1, range
  CompletingRebalance
stored
  a: is a1 in generation 1, has t:0-2,u:0-2
  Stable
join b topics=t,u strategy=range
  PreparingRebalance
beat a
  a: REBALANCE_IN_PROGRESS
join a
  store generation 2 of 2, range
  CompletingRebalance
stored
  a: is a1 in generation 2, has t:0-1,u:0-1
  b: is b2 in generation 2, has t:2,u:2
  Stable
join a owned=t:0
  a: INVALID_REQUEST (with strategy range members give up all partitions before they join)
# A member with another strategy cannot come in, one without a known one neither.
join c topics=t strategy=roundrobin
  c: INCONSISTENT_GROUP_PROTOCOL (the strategy of the group is range)
join c topics=t strategy=sticky
  c: INCONSISTENT_GROUP_PROTOCOL (there is no strategy "sticky"; use range, roundrobin or cooperative-sticky)
join c protocols=range:x
  c: INCONSISTENT_GROUP_PROTOCOL (the group has members of another kind)
