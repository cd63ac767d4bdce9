// The peer of bench-xds: go-control-plane behind the same line protocol as xds_server.
//
// Its two caches that serve delta to shared clients: SnapshotCache, which takes the whole world at each
// change, and LinearCache, which takes one resource.
package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
)

// One world for all clients.
type everyone struct{}

func (everyone) ID(*core.Node) string { return "all" }

type world struct {
	kind       string
	resources  []types.Resource
	generation uint64
	snapshots  cache.SnapshotCache
	linear     *cache.LinearCache
}

func main() {
	if len(os.Args) != 4 {
		fail(fmt.Errorf("usage: go-control-plane snapshot|linear cds|eds COUNT"))
	}
	count, err := strconv.Atoi(os.Args[3])
	fail(err)
	w := &world{kind: os.Args[2], resources: make([]types.Resource, count)}
	var served cache.Cache
	if os.Args[1] == "linear" {
		w.linear = cache.NewLinearCache(w.typeURL())
		served = w.linear
	} else {
		w.snapshots = cache.NewSnapshotCache(true, everyone{}, nil)
		served = w.snapshots
	}
	for index := range w.resources {
		w.resources[index] = w.resource(index, 0)
	}
	w.push(w.resources)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	fail(err)
	grpcServer := grpc.NewServer(grpc.MaxConcurrentStreams(1000000), grpc.MaxRecvMsgSize(64<<20))
	discovery.RegisterAggregatedDiscoveryServiceServer(grpcServer, server.NewServer(context.Background(), served, nil))
	go func() { fail(grpcServer.Serve(listener)) }()
	fmt.Printf("ready %d\n", listener.Addr().(*net.TCPAddr).Port)
	w.listen()
}

// The lines of the driver: "change TOGETHER TIMES PAUSE_MICROS".
func (w *world) listen() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) != 4 || words[0] != "change" {
			fail(fmt.Errorf("not understood: %q", lines.Text()))
		}
		together, times, pause := number(words[1]), number(words[2]), number(words[3])
		due := time.Now()
		for range times {
			w.change(together)
			due = due.Add(time.Duration(pause) * time.Microsecond)
			time.Sleep(time.Until(due))
		}
		fmt.Printf("done %d\n", w.generation)
	}
}

func (w *world) change(together int) {
	changed := make([]types.Resource, 0, together)
	for range together {
		index := int(w.generation % uint64(len(w.resources)))
		w.generation++
		w.resources[index] = w.resource(index, w.generation)
		changed = append(changed, w.resources[index])
	}
	w.push(changed)
}

func (w *world) push(changed []types.Resource) {
	if w.linear != nil {
		updates := make(map[string]types.Resource, len(changed))
		for _, one := range changed {
			updates[cache.GetResourceName(one)] = one
		}
		fail(w.linear.UpdateResources(updates, nil))
		return
	}
	version := strconv.FormatUint(w.generation, 10)
	snapshot, err := cache.NewSnapshot(version, map[resource.Type][]types.Resource{w.typeURL(): w.resources})
	fail(err)
	fail(w.snapshots.SetSnapshot(context.Background(), "all", snapshot))
}

func (w *world) typeURL() resource.Type {
	if w.kind == "eds" {
		return resource.EndpointType
	}
	return resource.ClusterType
}

// About 700 bytes. The mark tells which change it is and when it was made.
func (w *world) resource(index int, generation uint64) types.Resource {
	name := fmt.Sprintf("r-%06d", index)
	at := time.Now().UnixNano()
	if generation == 0 {
		at = 0 // the same in every process
	}
	mark := fmt.Sprintf("gen=%012d;at=%020d", generation, at)
	padding := strings.Repeat("x", 560)
	if w.kind == "eds" {
		return &endpoint.ClusterLoadAssignment{
			ClusterName: name,
			Endpoints: []*endpoint.LocalityLbEndpoints{{
				Locality: &core.Locality{Region: mark, Zone: padding},
			}},
		}
	}
	return &cluster.Cluster{
		Name:           name,
		AltStatName:    mark + padding,
		ConnectTimeout: durationpb.New(time.Second),
	}
}

func number(word string) int {
	value, err := strconv.Atoi(word)
	fail(err)
	return value
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "go-control-plane:", err)
		os.Exit(1)
	}
}
