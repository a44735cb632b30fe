package nemesis

import (
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// WritePlot draws a run as SVG: acknowledged records a second above, latencies (p50 and p99, on a logarithmic scale) below, and
// the faults behind both as bands with their names.
func WritePlot(to io.Writer, r *Result) error {
	p := &plot{r: r, run: max(r.Run, time.Second)}
	p.layout()
	p.draw()
	if _, err := io.WriteString(to, p.out.String()); err != nil {
		return fmt.Errorf("write the plot: %w", err)
	}
	return nil
}

// Sizes in pixels.
const (
	plotWidth  = 1280
	plotLeft   = 76
	plotRight  = 24
	plotTop    = 64
	laneHeight = 17
	panel      = 190
	panelGap   = 42
)

// classColors are light enough to read dark lines and text on them.
var classColors = map[Class][2]string{
	OfNodes: {"#f6c9c2", "#a3271b"}, OfEtcd: {"#cfe0f7", "#1c4f91"}, OfStore: {"#fbe3b3", "#8a5a00"}, OfLinks: {"#d5ecd3", "#2a6b2c"},
}

const (
	rateColor = "#0b5cad"
	tailColor = "#b3261e"
)

type plot struct {
	r     *Result
	run   time.Duration
	out   strings.Builder
	lanes [][]Span // bands that do not meet
	label map[string]Class

	rateTop, latencyTop, height int
}

// layout gives each fault a line on which its name has room.
func (p *plot) layout() {
	p.label = make(map[string]Class)
	for _, k := range Kinds() {
		p.label[k.Name] = k.Class
	}
	free := []float64{}
	for _, s := range p.r.Faults {
		if !s.Injected {
			continue
		}
		from, to := p.x(s.From), max(p.x(s.To), p.x(s.From)+textWidth(s.Kind))
		lane := slices.IndexFunc(free, func(x float64) bool { return x <= from })
		if lane < 0 {
			lane = len(free)
			free, p.lanes = append(free, 0), append(p.lanes, nil)
		}
		free[lane] = to + 6
		p.lanes[lane] = append(p.lanes[lane], s)
	}
	p.rateTop = plotTop + len(p.lanes)*laneHeight + 28
	p.latencyTop = p.rateTop + panel + panelGap
	p.height = p.latencyTop + panel + 52
}

// textWidth is about right for 11 px.
func textWidth(s string) float64 { return float64(len([]rune(s)))*5.9 + 8 }

func (p *plot) x(at time.Duration) float64 {
	share := min(max(at.Seconds()/p.run.Seconds(), 0), 1)
	return plotLeft + share*(plotWidth-plotLeft-plotRight)
}

func (p *plot) printf(format string, args ...any) { fmt.Fprintf(&p.out, format+"\n", args...) }

func (p *plot) text(x, y float64, class, s string) {
	p.printf(`<text x="%.1f" y="%.1f" class="%s">%s</text>`, x, y, class, escape(s))
}

func escape(s string) string {
	var out strings.Builder
	_ = xml.EscapeText(&out, []byte(s)) // a Builder does not fail
	return out.String()
}

func (p *plot) draw() {
	p.printf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img">`, plotWidth, p.height, plotWidth, p.height)
	p.printf(`<title>%s</title>`, escape(p.r.title()))
	p.printf(`<style>text{font-family:system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif;font-size:12px;fill:#1f2328}
.head{font-size:16px;font-weight:600}.sub{fill:#59636e}.end{text-anchor:end}.mid{text-anchor:middle}.band{font-size:11px}
.grid{stroke:#d1d9e0;stroke-width:1}.axis{stroke:#59636e;stroke-width:1}.line{fill:none;stroke-width:1.6;stroke-linejoin:round}</style>`)
	p.printf(`<rect width="%d" height="%d" fill="#ffffff"/>`, plotWidth, p.height)
	p.text(plotLeft, 26, "head", p.r.title())
	p.text(plotLeft, 46, "sub", p.r.subtitle())
	p.bands()
	p.rates()
	p.latencies()
	p.printf(`</svg>`)
}

func (p *plot) bands() {
	for lane, spans := range p.lanes {
		y := float64(plotTop + lane*laneHeight)
		for _, s := range spans {
			colors := classColors[p.label[s.Kind]]
			x, width := p.x(s.From), max(p.x(s.To)-p.x(s.From), 2)
			p.printf(`<g><title>%s</title>`, escape(fmt.Sprintf("%s, %.1f s to %.1f s", s.Name, s.From.Seconds(), s.To.Seconds())))
			for _, top := range []int{p.rateTop, p.latencyTop} {
				p.printf(`<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s" fill-opacity="0.45"/>`, x, top, width, panel, colors[0])
			}
			p.printf(`<rect x="%.1f" y="%.1f" width="%.1f" height="%d" fill="%s"/>`, x, y, width, laneHeight-2, colors[0])
			p.printf(`<rect x="%.1f" y="%.1f" width="2" height="%d" fill="%s"/>`, x, y, laneHeight-2, colors[1])
			p.printf(`<text x="%.1f" y="%.1f" class="band" style="fill:%s">%s</text></g>`, x+5, y+11.5, colors[1], escape(s.Kind))
		}
	}
}

// frame draws a panel's lines; at gives the height of a value, title is SVG.
func (p *plot) frame(top int, title string, values []float64, name func(float64) string, at func(float64) float64) {
	for _, v := range values {
		y := at(v)
		p.printf(`<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" class="grid"/>`, plotLeft, plotWidth-plotRight, y, y)
		p.text(plotLeft-8, y+4, "end", name(v))
	}
	p.printf(`<text x="%d" y="%d" class="sub">%s</text>`, plotLeft, top-8, title)
	bottom := float64(top + panel)
	p.printf(`<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" class="axis"/>`, plotLeft, plotWidth-plotRight, bottom, bottom)
	step := nice(p.run.Seconds() / 12)
	for s := 0.0; s <= p.run.Seconds()+1e-9; s += step {
		x := p.x(time.Duration(s * float64(time.Second)))
		p.printf(`<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" class="axis"/>`, x, x, bottom, bottom+4)
		p.text(x, bottom+18, "mid", fmt.Sprintf("%g s", s))
	}
}

// nice is the next of 1, 2, 5, 10, … at or above v.
func nice(v float64) float64 {
	if v <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, n := range []float64{1, 2, 5, 10} {
		if n*power >= v-1e-12 {
			return n * power
		}
	}
	return 10 * power
}

func (p *plot) rates() {
	most := 1.0
	for _, s := range p.r.Measured.Seconds {
		most = max(most, float64(s.Acked))
	}
	step := nice(most / 4)
	top := step * math.Ceil(most/step)
	at := func(v float64) float64 { return float64(p.rateTop+panel) - v/top*panel }
	var values []float64
	for v := 0.0; v <= top+step/2; v += step {
		values = append(values, v)
	}
	p.frame(p.rateTop, `records acknowledged in each second; dashed: what is offered`, values, thousands, at)
	var points []string
	for i, s := range p.r.Measured.Seconds {
		points = append(points, fmt.Sprintf("%.1f,%.1f", p.x(middle(i)), at(float64(s.Acked))))
	}
	p.line(points, rateColor)
	y := at(float64(p.r.Rate))
	p.printf(`<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" class="axis" stroke-dasharray="4 4"/>`, plotLeft, plotWidth-plotRight, y, y)
}

func middle(second int) time.Duration {
	return time.Duration(second)*time.Second + 500*time.Millisecond
}

func thousands(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func (p *plot) line(points []string, color string) {
	p.printf(`<polyline class="line" stroke="%s" points="%s"/>`, color, strings.Join(points, " "))
}

func (p *plot) latencies() {
	const low, high = -3.0, 2.0 // powers of ten, in seconds: 1 ms to 100 s
	at := func(seconds float64) float64 {
		share := (math.Log10(max(seconds, 1e-3)) - low) / (high - low)
		return float64(p.latencyTop+panel) - min(share, 1)*panel
	}
	names := map[float64]string{0.001: "1 ms", 0.01: "10 ms", 0.1: "100 ms", 1: "1 s", 10: "10 s", 100: "100 s"}
	p.frame(p.latencyTop, `from produce to acknowledgement, by the second of the acknowledgement: <tspan style="fill:`+rateColor+`;font-weight:600">p50</tspan> and <tspan style="fill:`+
		tailColor+`;font-weight:600">p99</tspan>`,
		[]float64{0.001, 0.01, 0.1, 1, 10, 100}, func(v float64) string { return names[v] }, at)
	for _, q := range []struct {
		color string
		of    func(Second) time.Duration
	}{
		{rateColor, func(s Second) time.Duration { return s.P50 }},
		{tailColor, func(s Second) time.Duration { return s.P99 }},
	} {
		var points []string
		flush := func() {
			if len(points) == 1 { // a second on its own is a short stroke
				points = append(points, points[0])
			}
			if len(points) > 0 {
				p.line(points, q.color)
			}
			points = nil
		}
		for i, s := range p.r.Measured.Seconds {
			if s.Acked == 0 {
				flush()
				continue
			}
			points = append(points, fmt.Sprintf("%.1f,%.1f", p.x(middle(i)), at(q.of(s).Seconds())))
		}
		flush()
	}
}
