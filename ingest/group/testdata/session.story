# Who is silent for its session timeout is removed at the next tick.
join a topics=t counts=t:2 session=10s
  store generation 1 of 1, cooperative-sticky
  CompletingRebalance
stored
  a: is a1 in generation 1, has t:0-1
  Stable
join b topics=t session=10s
  PreparingRebalance
join a
  store generation 2 of 2, cooperative-sticky
  CompletingRebalance
stored
  a: is a1 in generation 2, has t:0, gives up t:1, acknowledge, withheld
  b: is b2 in generation 2, has nothing, withheld
  Stable
beat a ack
  a: REBALANCE_IN_PROGRESS
  PreparingRebalance
join a
join b
  store generation 3 of 2, cooperative-sticky
  CompletingRebalance
stored
  a: is a1 in generation 3, has t:0
  b: is b2 in generation 3, has t:1
  Stable
wait 6s
beat a
  a: ok
wait 4s
  PreparingRebalance
beat b
  b: UNKNOWN_MEMBER_ID
beat a
  a: REBALANCE_IN_PROGRESS
join a
  store generation 4 of 1, cooperative-sticky
  CompletingRebalance
stored
  a: is a1 in generation 4, has t:0-1
  Stable
# A commit is a sign of life, and so is a heartbeat that comes after the deadline but before the tick.
wait 9s
commit a
  may commit
wait 9s
commit a
  may commit
sleep 30s
beat a
  a: ok
tick
wait 10s
  Empty
beat a
  a: UNKNOWN_MEMBER_ID
