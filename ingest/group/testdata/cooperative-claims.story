# After a takeover the new coordinator knows no members, only their generation and how many they were. Members claim what they have.
limits restored=7 expected=2
beat a id=a0 gen=7
  a: REBALANCE_IN_PROGRESS
join a topics=t counts=t:4 owned=t:0-1
  PreparingRebalance
join b topics=t owned=t:2-3
  store generation 8 of 2, cooperative-sticky
  CompletingRebalance
stored
  a: is a1 in generation 8, has t:0-1
  b: is b2 in generation 8, has t:2-3
  Stable
# What is assigned to b cannot be claimed by a; a is told to have it no more.
join a owned=t:0-3
  a: is a1 in generation 8, has t:0-1
beat b
  b: ok
