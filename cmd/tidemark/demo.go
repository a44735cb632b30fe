package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// The topics of the demo.
const (
	demoOrders    = "orders"
	demoAccessLog = "access_log"
)

// demoSeed makes the demo tell everybody the same story.
const demoSeed = 8640

// demoRecord is one record of the demo; key nil means none.
type demoRecord struct {
	topic     string
	key       []byte
	value     []byte
	timestamp int64 // ms since the Unix epoch
}

// demoShop generates an online shop: visitors browse, some order, orders move from placed to delivered. Few customers and
// products have most of the traffic. About one order in 50 arrives late, and one in 200 is not valid JSON, as in life. From
// one seed and one sequence of times come the same records. Not safe for concurrent use.
type demoShop struct {
	random    *rand.Rand
	customers *rand.Zipf
	products  *rand.Zipf
	next      int // number of the next order
	open      []*demoOrder
}

type demoItem struct {
	SKU      string  `json:"sku"`
	Quantity int     `json:"quantity"`
	Price    float64 `json:"price"`
}

type demoOrder struct {
	ID       string     `json:"order_id"`
	Customer string     `json:"customer"`
	Region   string     `json:"region"`
	Amount   float64    `json:"amount"`
	Items    []demoItem `json:"items"`
	Status   string     `json:"status"`
	Express  bool       `json:"express"`
	Coupon   *string    `json:"coupon"`
	TS       string     `json:"ts"`
}

type demoVisit struct {
	TS        string  `json:"ts"`
	IP        string  `json:"ip"`
	Method    string  `json:"method"`
	Path      string  `json:"path"`
	Status    int     `json:"status"`
	Bytes     int     `json:"bytes"`
	Seconds   float64 `json:"seconds"`
	Customer  *string `json:"customer"`
	UserAgent string  `json:"user_agent"`
}

const (
	demoCustomers = 5000
	demoProducts  = 800
	// demoOpenOrders bounds the orders on their way; beyond it the oldest are forgotten.
	demoOpenOrders = 2000
)

var (
	demoRegions = []string{"eu-central", "eu-west", "us-east", "us-west", "ap-south"}
	demoStates  = []string{"placed", "paid", "packed", "shipped", "delivered"}
	demoCoupons = []string{"WELCOME10", "SPRING", "FREESHIP"}
	demoAgents  = []string{
		"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 14_5) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
		"curl/8.9.1",
	}
)

func newDemoShop(seed uint64) *demoShop {
	r := rand.New(rand.NewPCG(seed, seed))
	return &demoShop{
		random:    r,
		customers: rand.NewZipf(r, 1.1, 4, demoCustomers-1),
		products:  rand.NewZipf(r, 1.3, 8, demoProducts-1),
		next:      1,
	}
}

// tick returns what happens at one moment: a few visits, and by chance an order or a step of one.
func (s *demoShop) tick(now time.Time) []demoRecord {
	var out []demoRecord
	for range 2 + s.random.IntN(3) {
		out = append(out, s.visit(now, s.customers.Uint64(), ""))
	}
	switch n := s.random.IntN(10); {
	case n < 4:
		order := s.place(now)
		out = append(out, s.visit(now, customerNumber(order.Customer), "/checkout"), s.order(order, now))
	case n < 8 && len(s.open) > 0:
		out = append(out, s.order(s.advance(now), now))
	}
	return out
}

func customerName(n uint64) string { return fmt.Sprintf("c%04d", n) }

func customerNumber(name string) uint64 {
	n, err := strconv.ParseUint(strings.TrimPrefix(name, "c"), 10, 64)
	if err != nil {
		panic(err) // we made the name
	}
	return n
}

// region is a customer's own, so that customer and region hang together.
func region(customer uint64) string { return demoRegions[customer*7919%uint64(len(demoRegions))] }

func (s *demoShop) place(now time.Time) *demoOrder {
	customer := s.customers.Uint64()
	o := &demoOrder{
		ID: fmt.Sprintf("o%08d", s.next), Customer: customerName(customer), Region: region(customer),
		Status: demoStates[0], Express: s.random.IntN(5) == 0, TS: demoTime(now),
	}
	s.next++
	cents := 0
	for range 1 + s.random.IntN(4) {
		product := s.products.Uint64()
		price := 199 + int(product*2654435761%19800)
		quantity := 1 + s.random.IntN(3)
		cents += price * quantity
		o.Items = append(o.Items, demoItem{SKU: fmt.Sprintf("p%03d", product), Quantity: quantity, Price: float64(price) / 100})
	}
	o.Amount = float64(cents) / 100
	if s.random.IntN(8) == 0 {
		o.Coupon = &demoCoupons[s.random.IntN(len(demoCoupons))]
	}
	if len(s.open) == demoOpenOrders {
		s.open = append(s.open[:0], s.open[1:]...)
	}
	s.open = append(s.open, o)
	return o
}

// advance moves one open order on; one in twenty is cancelled.
func (s *demoShop) advance(now time.Time) *demoOrder {
	i := s.random.IntN(len(s.open))
	o := s.open[i]
	if s.random.IntN(20) == 0 {
		o.Status = "cancelled"
	} else {
		for at, state := range demoStates {
			if state == o.Status {
				o.Status = demoStates[at+1]
				break
			}
		}
	}
	o.TS = demoTime(now)
	if o.Status == "cancelled" || o.Status == demoStates[len(demoStates)-1] {
		s.open[i] = s.open[len(s.open)-1]
		s.open = s.open[:len(s.open)-1]
	}
	return o
}

func (s *demoShop) order(o *demoOrder, now time.Time) demoRecord {
	shown := *o
	at := now
	if s.random.IntN(50) == 0 {
		at = now.Add(-time.Duration(1+s.random.IntN(3600)) * time.Second)
		shown.TS = demoTime(at)
	}
	value := marshalDemo(shown)
	if s.random.IntN(200) == 0 {
		value = value[:len(value)*2/3] // a sender that died in the middle
	}
	return demoRecord{topic: demoOrders, key: []byte(o.Customer), value: value, timestamp: at.UnixMilli()}
}

func (s *demoShop) visit(now time.Time, customer uint64, page string) demoRecord {
	v := demoVisit{
		TS: demoTime(now), IP: fmt.Sprintf("10.%d.%d.%d", customer%5, customer/250%250, customer%250+1), Method: "GET", Path: page, Status: 200,
		Bytes: 500 + s.random.IntN(40_000), UserAgent: demoAgents[customer%uint64(len(demoAgents))],
	}
	if v.Path == "" {
		v.Path = fmt.Sprintf("/products/p%03d", s.products.Uint64())
	} else {
		v.Method = "POST"
	}
	v.Seconds = float64(2+s.random.IntN(80)) / 1000
	switch n := s.random.IntN(100); {
	case n == 0:
		v.Status, v.Bytes, v.Seconds = 500, 162, v.Seconds*20
	case n < 4:
		v.Status, v.Bytes = 404, 153
	case n < 8:
		v.Status, v.Bytes = 304, 0
	}
	if s.random.IntN(3) > 0 {
		name := customerName(customer)
		v.Customer = &name
	}
	return demoRecord{topic: demoAccessLog, key: []byte(v.IP), value: marshalDemo(v), timestamp: now.UnixMilli()}
}

func demoTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func marshalDemo(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain structs of ours
	}
	return b
}
