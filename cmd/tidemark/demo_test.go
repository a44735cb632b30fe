package main

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"
)

func demoStory(seed uint64, ticks int) []demoRecord {
	shop := newDemoShop(seed)
	now := time.UnixMilli(1_750_000_000_000)
	var out []demoRecord
	for range ticks {
		out = append(out, shop.tick(now)...)
		now = now.Add(demoPace)
	}
	return out
}

func TestDemoTellsTheSameStory(t *testing.T) {
	a, b := demoStory(demoSeed, 500), demoStory(demoSeed, 500)
	if len(a) != len(b) {
		t.Fatalf("%d and %d records", len(a), len(b))
	}
	for i := range a {
		if a[i].topic != b[i].topic || !bytes.Equal(a[i].key, b[i].key) || !bytes.Equal(a[i].value, b[i].value) || a[i].timestamp != b[i].timestamp {
			t.Fatalf("record %d differs: %s and %s", i, a[i].value, b[i].value)
		}
	}
}

func TestDemoIsLikeLife(t *testing.T) {
	const ticks = 20_000
	story := demoStory(demoSeed, ticks)
	var orders, malformed, late, delivered int
	customers := map[string]int{}
	regionOf := map[string]string{}
	for _, r := range story {
		if r.topic != demoOrders {
			if !json.Valid(r.value) {
				t.Fatalf("access_log is not JSON: %s", r.value)
			}
			continue
		}
		orders++
		customers[string(r.key)]++
		var o demoOrder
		if json.Unmarshal(r.value, &o) != nil {
			malformed++
			continue
		}
		if o.Customer != string(r.key) || o.Amount <= 0 || len(o.Items) == 0 {
			t.Fatalf("order %s", r.value)
		}
		if before, seen := regionOf[o.Customer]; seen && before != o.Region {
			t.Fatalf("customer %s is in %s and %s", o.Customer, before, o.Region)
		}
		regionOf[o.Customer] = o.Region
		if at, err := time.Parse(time.RFC3339, o.TS); err != nil || at.UnixMilli() != r.timestamp {
			t.Fatalf("order of %s at %d: %v", o.TS, r.timestamp, err)
		}
		if o.Status == "delivered" {
			delivered++
		}
	}
	now := int64(0)
	for _, r := range story {
		if r.timestamp < now-999 {
			late++
		}
		now = max(now, r.timestamp)
	}
	perSecond := float64(len(story)) / (ticks * demoPace.Seconds())
	if perSecond < 150 || perSecond > 400 {
		t.Errorf("%.0f records a second", perSecond)
	}
	most := 0
	for _, n := range customers {
		most = max(most, n)
	}
	if most < 20*orders/len(customers) {
		t.Errorf("keys are not skewed: the first of %d customers has %d of %d orders", len(customers), most, orders)
	}
	if malformed < orders/400 || malformed > orders/100 || late < orders/100 || late > orders/25 || delivered == 0 {
		t.Errorf("of %d orders %d are malformed, %d late, %d delivered", orders, malformed, late, delivered)
	}
}
