# A member of the coordinator before that leaves is not waited for.
limits restored=7 expected=2
join a id=a0 topics=t counts=t:4 owned=t:0-1
  PreparingRebalance
leave b id=b0
  b0: left
  store generation 8 of 1, cooperative-sticky
  CompletingRebalance
stored
  a: is a0 in generation 8, has t:0-3
  Stable
leave b id=b0
  b0: UNKNOWN_MEMBER_ID
