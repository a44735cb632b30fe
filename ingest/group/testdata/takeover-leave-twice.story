# One that leaves again and again counts once: the other one of the coordinator before is waited for.
limits restored=7 expected=3
join a id=a0 topics=t counts=t:4 owned=t:0-1
  PreparingRebalance
leave b id=b0
  b0: left
leave b id=b0
  b0: left
wait 1s
join c id=c0 topics=t owned=t:2-3
  store generation 8 of 2, cooperative-sticky
  CompletingRebalance
stored
  a: is a0 in generation 8, has t:0-1
  c: is c0 in generation 8, has t:2-3
  Stable
