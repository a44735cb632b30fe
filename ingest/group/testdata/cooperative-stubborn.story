# Who does not give up what others wait for is removed after its rebalance timeout, though it heartbeats.
join a topics=t counts=t:4 session=30s rebalance=20s
  store generation 1 of 1, cooperative-sticky
  CompletingRebalance
stored
  a: is a1 in generation 1, has t:0-3
  Stable
join b topics=t session=30s
  PreparingRebalance
join a
  store generation 2 of 2, cooperative-sticky
  CompletingRebalance
stored
  a: is a1 in generation 2, has t:0-1, gives up t:2-3, acknowledge, withheld
  b: is b2 in generation 2, has nothing, withheld
  Stable
wait 19s
beat a
  a: ok
beat b
  b: ok
wait 1s
  PreparingRebalance
beat a
  a: UNKNOWN_MEMBER_ID
join b
  store generation 3 of 1, cooperative-sticky
  CompletingRebalance
stored
  b: is b2 in generation 3, has t:0-3
  Stable
