# Only an empty group is deleted, and only when nothing is on its way to be stored.
join a topics=t counts=t:1
  store generation 1 of 1, cooperative-sticky
  CompletingRebalance
stored
  a: is a1 in generation 1, has t:0
  Stable
delete
  : NON_EMPTY_GROUP (it is Stable)
join b topics=t
  PreparingRebalance
join a
  store generation 2 of 2, cooperative-sticky
  CompletingRebalance
leave a b
  a: UNKNOWN_MEMBER_ID
  a1: left
  : UNKNOWN_MEMBER_ID
  PreparingRebalance
cancel b
  Empty
delete
  : COORDINATOR_NOT_AVAILABLE
stored
delete
  : ok
  Dead
join a
  a: NOT_COORDINATOR
