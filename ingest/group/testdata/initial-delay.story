# The first members of an empty group are gathered; each one begins the delay anew.
limits delay=3s
join a topics=t counts=t:4
  PreparingRebalance
wait 2s
join b topics=t
wait 2s
join c topics=t
wait 3s
  store generation 1 of 3, cooperative-sticky
  CompletingRebalance
stored
  a: is a1 in generation 1, has t:0,t:3
  b: is b2 in generation 1, has t:1
  c: is c3 in generation 1, has t:2
  Stable
leave a b c
  a1: left
  b2: left
  c3: left
  Empty
forget a
join a topics=t
  PreparingRebalance
wait 3s
  store generation 2 of 1, cooperative-sticky
  CompletingRebalance
