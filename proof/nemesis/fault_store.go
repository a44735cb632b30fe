package nemesis

import "context"

// storeFault has the gate in front of the object store misbehave.
type storeFault struct {
	Gate *Gate
	Mode GateMode
}

func (f *storeFault) Name() string { return storeFaultNames[f.Mode] }

var storeFaultNames = map[GateMode]string{
	GateRefuses:          "the store answers 503",
	GateStoresAndRefuses: "the store stores, and answers 503",
	GateHangs:            "the store hangs",
	GateTruncates:        "answers of the store end too early",
}

func (f *storeFault) Inject(context.Context) error { f.Gate.Set(f.Mode); return nil }

func (f *storeFault) Heal(context.Context) error { f.Gate.Set(GatePasses); return nil }

func storeKinds() []Kind {
	kind := func(name string, mode GateMode) Kind {
		return Kind{Name: name, Class: OfStore, New: func(c *Cluster, _ Random) Fault {
			return &storeFault{Gate: c.gate, Mode: mode}
		}}
	}
	return []Kind{
		kind("store 503", GateRefuses),
		kind("store 503 after storing", GateStoresAndRefuses),
		kind("store hangs", GateHangs),
		kind("store truncates", GateTruncates),
	}
}
