# A static member that comes back in time gets its assignment at once; the other does not notice. Its former self is fenced.
join a instance=one topics=t counts=t:4 session=60s
  store generation 1 of 1, cooperative-sticky
  CompletingRebalance
stored
  a: is a1 in generation 1, has t:0-3
  Stable
join b instance=two topics=t session=60s
  PreparingRebalance
join a
  store generation 2 of 2, cooperative-sticky
  CompletingRebalance
stored
  a: is a1 in generation 2, has t:0-1, gives up t:2-3, acknowledge, withheld
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
  a: is a1 in generation 3, has t:0-1
  b: is b2 in generation 3, has t:2-3
  Stable
wait 20s
forget b
join b instance=two topics=t session=60s
  b: is b6 in generation 3, has t:2-3
beat a
  a: ok
beat b
  b: ok
beat ghost id=b2 instance=two gen=3
  ghost: FENCED_INSTANCE_ID
commit ghost id=b2 instance=two gen=3
  FENCED_INSTANCE_ID
join ghost id=b2 instance=two topics=t
  ghost: FENCED_INSTANCE_ID
beat ghost id=b2 gen=3
  ghost: FENCED_INSTANCE_ID
leave ghost id=b2
  b2: FENCED_INSTANCE_ID
# Another subscription is a rebalance.
forget b
join b instance=two topics=t,u session=60s counts=u:1
  PreparingRebalance
beat a
  a: REBALANCE_IN_PROGRESS
join a
  store generation 4 of 2, cooperative-sticky
  CompletingRebalance
stored
  a: is a1 in generation 4, has t:0-1
  b: is b8 in generation 4, has t:2-3,u:0
  Stable
# A static member can be removed by its instance id alone.
leave instance:two
  two: left
  PreparingRebalance
leave instance:two
  two: UNKNOWN_MEMBER_ID
