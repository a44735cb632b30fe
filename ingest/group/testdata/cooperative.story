# One member has all. A second one comes: what moves is withheld until the first has given it up.
join a topics=t counts=t:4
  store generation 1 of 1, cooperative-sticky
  CompletingRebalance
stored
  a: is a1 in generation 1, has t:0-3
  Stable
beat a
  a: ok
join b topics=t
  PreparingRebalance
beat a
  a: REBALANCE_IN_PROGRESS
join a
  store generation 2 of 2, cooperative-sticky
  CompletingRebalance
stored
  a: is a1 in generation 2, has t:0-1, gives up t:2-3, acknowledge, withheld
  b: is b2 in generation 2, has nothing, withheld
  Stable
# b waits for t:2-3, a still reads them.
beat b
  b: ok
# A heartbeat alone is no acknowledgement.
beat a
  a: ok
# a has stopped reading them: the follow-up begins at once.
beat a ack
  a: REBALANCE_IN_PROGRESS
  PreparingRebalance
join a
join b
  store generation 3 of 2, cooperative-sticky
  CompletingRebalance
stored
  a: is a1 in generation 3, has t:0-1
  b: is b2 in generation 3, has t:2-3
  Stable
describe
  g Stable generation 3, cooperative-sticky
  a1 (client-a at host) wants t has t:0-1 target t:0-1
  b2 (client-b at host) wants t has t:2-3 target t:2-3
wake
  in 10s
