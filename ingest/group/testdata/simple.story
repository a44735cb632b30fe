# Without members anyone may commit.
commit -
  may commit
commit a gen=0 id=a
  UNKNOWN_MEMBER_ID
join a topics=t counts=t:1
  store generation 1 of 1, cooperative-sticky
  CompletingRebalance
commit -
  UNKNOWN_MEMBER_ID
stored
  a: is a1 in generation 1, has t:0
  Stable
commit -
  UNKNOWN_MEMBER_ID
commit a
  may commit
leave a
  a1: left
  Empty
commit -
  may commit
commit a
  UNKNOWN_MEMBER_ID
