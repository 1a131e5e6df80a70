// Flows says which flows a cluster's NetworkPolicies allow, as cyclonus judges them. A question goes in and the
// allowed flows come out, both as JSON; peers and ports are meant by their index.
package main

import (
	"encoding/json"
	"log"
	"os"

	"github.com/mattfenwick/cyclonus/pkg/matcher"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

type question struct {
	Policies []*networkingv1.NetworkPolicy
	Peers    []*matcher.TrafficPeer
	Ports    []port
	Pairs    [][2]int
}

type port struct {
	Number   int
	Name     string
	Protocol corev1.Protocol
}

func main() {
	var asked question
	decoder := json.NewDecoder(os.Stdin)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&asked); err != nil {
		log.Fatalf("the question cannot be read: %v", err)
	}
	// Not simplified: the policies are judged as they stand.
	policies := matcher.BuildNetworkPolicies(false, asked.Policies)
	allowed := [][3]int{}
	for _, pair := range asked.Pairs {
		for index, port := range asked.Ports {
			traffic := &matcher.Traffic{
				Source:           asked.Peers[pair[0]],
				Destination:      asked.Peers[pair[1]],
				ResolvedPort:     port.Number,
				ResolvedPortName: port.Name,
				Protocol:         port.Protocol,
			}
			if policies.IsTrafficAllowed(traffic).IsAllowed() {
				allowed = append(allowed, [3]int{pair[0], pair[1], index})
			}
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(allowed); err != nil {
		log.Fatal(err)
	}
}
