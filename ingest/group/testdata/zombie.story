# A member that slept is told so whatever it tries, and joins as a new one.
join a topics=t counts=t:2 session=10s
  store generation 1 of 1, cooperative-sticky
  CompletingRebalance
stored
  a: is a1 in generation 1, has t:0-1
  Stable
wait 10s
  Empty
beat a
  a: UNKNOWN_MEMBER_ID
commit a
  UNKNOWN_MEMBER_ID
join a
  a: UNKNOWN_MEMBER_ID
leave a
  a1: UNKNOWN_MEMBER_ID
forget a
join a topics=t
  store generation 2 of 1, cooperative-sticky
  CompletingRebalance
stored
  a: is a3 in generation 2, has nothing
  Stable
# Generations of the past and of the future.
beat a gen=1
  a: ILLEGAL_GENERATION
commit a gen=1
  ILLEGAL_GENERATION
beat a gen=9
  a: ILLEGAL_GENERATION
commit a gen=-1
  ILLEGAL_GENERATION
commit -
  UNKNOWN_MEMBER_ID
