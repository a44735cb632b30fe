limits members=2 memberbytes=20 groupbytes=30 topics=2 partitions=8 protocols=2
join a topics=t counts=t:4 session=500ms
  a: INVALID_SESSION_TIMEOUT (it is 500ms, between 1s and 30m0s is allowed)
join a topics=t counts=t:4 session=31m
  a: INVALID_SESSION_TIMEOUT (it is 31m0s, between 1s and 30m0s is allowed)
join a topics=t counts=t:4 session=10s
  store generation 1 of 1, cooperative-sticky
  CompletingRebalance
stored
  a: is a3 in generation 1, has t:0-3
  Stable
join b topics=t,u,v
  b: INVALID_REQUEST (3 topics, at most 2 are allowed)
join b topics=abcdefghij,klmnopqrstu
  b: INVALID_REQUEST (21 bytes of protocols or topics, at most 20 are allowed)
join b topics=t,u counts=u:5
  b: INVALID_REQUEST (the topics of the group would have 9 partitions, at most 8 are allowed)
join b topics=t, counts=u:5
  b: INVALID_REQUEST (a topic's name has between 1 and 255 bytes)
join b topics=t owned=t:0-8
  b: INVALID_REQUEST (9 partitions owned, at most 8 are allowed)
join b topics=abcdefghij,klmnopqrst
  PreparingRebalance
join c topics=t
  c: GROUP_MAX_SIZE_REACHED (it has 2 members)
join a topics=abcdefghij,klmnopqrst counts=abcdefghij:8
  a: GROUP_MAX_SIZE_REACHED (its members would have more than 30 bytes of protocols or topics)
join d id=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx topics=t
  d: INVALID_REQUEST (an id has 256 bytes, at most 255 are allowed)
join d protocols=p:1,q:2,r:3
  d: INVALID_REQUEST (3 protocols, at most 2 are allowed)
join d topics=t strategy=yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy
  d: INCONSISTENT_GROUP_PROTOCOL (there is no strategy "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"; use range, roundrobin or cooperative-sticky)
describe
  g PreparingRebalance generation 1, cooperative-sticky
  a3 (client-a at host) wants t has t:0-3 target t:0-3
  b9 (client-b at host) wants abcdefghij,klmnopqrst has nothing target nothing joining
