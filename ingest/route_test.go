package ingest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

func TestAnyNodeTakesAnyProduce(t *testing.T) {
	inRouteWorld(t, 3, func(w *routeWorld) {
		t := w.t
		w.create("n1", "a", 6, nil)
		led := make(map[string]int)
		for _, node := range w.leaders("n2", "a") {
			led[node]++
		}
		if len(led) != 3 {
			t.Fatalf("the story needs three leaders: %v", led)
		}
		want := make(map[int32][]string)
		sent := func(partition int32, value string) { want[partition] = append(want[partition], value) }
		for partition := range int32(6) {
			for _, via := range []string{"n1", "n2", "n3"} {
				answer := w.nodes[via].mustSend("a", partition, "unary "+via)
				if int(answer.GetBaseOffset()) != len(want[partition]) || answer.GetReached() != tidemarkv1.Reached_REACHED_OBJECT {
					t.Errorf("partition %d through %s: %v", partition, via, answer)
				}
				sent(partition, "unary "+via)
			}
		}
		for _, via := range []string{"n1", "n2", "n3"} {
			stream, err := w.nodes[via].produce().ProduceStream(w.ctx)
			if err != nil {
				t.Fatal(err)
			}
			for n := range 60 {
				value := fmt.Sprintf("stream %s %d", via, n)
				if err := stream.Send(&tidemarkv1.ProduceStreamRequest{Correlation: uint64(n), Produce: &tidemarkv1.ProduceRequest{
					Topic: "a", Partition: int32(n % 6), Batch: oneBatch(value),
				}}); err != nil {
					t.Fatal(err)
				}
				sent(int32(n%6), value)
			}
			for range 60 {
				answer, err := stream.Receive()
				if err != nil || answer.GetProduced() == nil {
					t.Fatalf("%v, %v", answer, err)
				}
			}
			if err := stream.CloseRequest(); err != nil {
				t.Fatal(err)
			}
			_ = stream.CloseResponse()
			for partition := range int32(6) {
				url := fmt.Sprintf("%s/v1/topics/a/records?partition=%d", w.nodes[via].url(), partition)
				response, err := w.nodes[via].client().Post(url, "text/plain", strings.NewReader("plain "+via))
				if err != nil || response.StatusCode != http.StatusOK {
					t.Fatalf("plain produce: %v, %v", response, err)
				}
				_ = response.Body.Close()
				sent(partition, "plain "+via)
			}
		}
		for _, via := range []string{"n1", "n2", "n3"} {
			got := w.nodes[via].read("a")
			for partition, values := range want {
				if !slices.Equal(got[partition], values) {
					t.Errorf("partition %d through %s:\n%v\nwant\n%v", partition, via, got[partition], values)
				}
			}
		}
	})
}
