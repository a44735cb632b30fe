# A member that wants other topics causes a rebalance; one that joins again with the same does not.
join a topics=t counts=t:2,u:2
  store generation 1 of 1, cooperative-sticky
  CompletingRebalance
stored
  a: is a1 in generation 1, has t:0-1
  Stable
join a
  a: is a1 in generation 1, has t:0-1
join a topics=t,u counts=u:2
  store generation 2 of 1, cooperative-sticky
  CompletingRebalance
stored
  a: is a1 in generation 2, has t:0-1,u:0-1
  Stable
join a topics=u
  store generation 3 of 1, cooperative-sticky
  CompletingRebalance
stored
  a: is a1 in generation 3, has u:0-1, gives up t:0-1
  Stable
sync a
  a: INCONSISTENT_GROUP_PROTOCOL (the assignment came with the join)
