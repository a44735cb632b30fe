# As many as were expected are there, then one goes away: the takeover delay counts again.
limits restored=3 expected=2
join c require topics=t
  c: MEMBER_ID_REQUIRED c1
join a topics=t counts=t:2
  PreparingRebalance
join b topics=t
tick
cancel b
leave c
  c1: left
wake
  in 3s
wait 3s
  store generation 4 of 1, cooperative-sticky
  CompletingRebalance
stored
  a: is a2 in generation 4, has t:0-1
  Stable
