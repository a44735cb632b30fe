# Members of the coordinator before come back under their ids and go on reading what they have.
limits restored=7 expected=2
beat a id=a0 gen=7
  a: REBALANCE_IN_PROGRESS
commit a id=a0 gen=7
  REBALANCE_IN_PROGRESS
beat b id=b0 gen=7 instance=two
  b: REBALANCE_IN_PROGRESS
join a id=a0 topics=t counts=t:4 owned=t:0,t:2
  PreparingRebalance
beat a id=a0 gen=7
  a: ILLEGAL_GENERATION
join b id=b0 instance=two topics=t owned=t:1,t:3
  store generation 8 of 2, cooperative-sticky
  CompletingRebalance
stored
  a: is a0 in generation 8, has t:0,t:2
  b: is b0 in generation 8, has t:1,t:3
  Stable
beat a
  a: ok
beat c id=c0 gen=7
  c: UNKNOWN_MEMBER_ID
join c id=c0 topics=t owned=t:0
  c: UNKNOWN_MEMBER_ID
