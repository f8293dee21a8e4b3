// Command candidate takes part in a leader election by way of client-go, and prints one line of JSON per callback.
//
// It is the same for every release of client-go: go.mod names one of today, legacy.mod the last with the old lock types.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// A callback of client-go.
type event struct {
	// "started" and "stopped" leading, "leader" for a new leader, "candidate" once at the start.
	Event string `json:"event"`
	// The leader, with "leader".
	Leader string `json:"leader,omitempty"`
	// Nanoseconds since the machine started, suspends included.
	At int64 `json:"at"`
}

var output sync.Mutex

func say(name, leader string) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		fail(err)
	}
	output.Lock()
	defer output.Unlock()
	if err := json.NewEncoder(os.Stdout).Encode(event{name, leader, now.Nano()}); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "the kubeconfig's path")
	id := flag.String("id", "", "this candidate's identity")
	lockType := flag.String("lock-type", "leases", "the lock's type, as client-go names it")
	namespace := flag.String("namespace", "default", "the lock's namespace")
	name := flag.String("name", "", "the lock's name")
	ttl := flag.Duration("ttl", 10*time.Second, "the lease's duration: renewed within a third, retried after a sixth")
	flag.Parse()

	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		fail(err)
	}
	// What component-base does for the control plane's own elections: a request that hangs is not waited for.
	config.Timeout = max(*ttl/6, time.Second)
	// Whoever watches from outside can read it.
	config.ContentType = "application/json"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		fail(err)
	}
	lock, err := resourcelock.New(*lockType, *namespace, *name, client.CoreV1(), client.CoordinationV1(),
		resourcelock.ResourceLockConfig{Identity: *id})
	if err != nil {
		fail(err)
	}
	election := leaderelection.LeaderElectionConfig{
		Lock:            lock,
		LeaseDuration:   *ttl,
		RenewDeadline:   *ttl / 3,
		RetryPeriod:     *ttl / 6,
		ReleaseOnCancel: true,
		Name:            *name,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { say("started", "") },
			OnStoppedLeading: func() { say("stopped", "") },
			OnNewLeader:      func(leader string) { say("leader", leader) },
		},
	}
	// Released by SIGTERM; whoever loses the election is a candidate again.
	running, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	say("candidate", "")
	for running.Err() == nil {
		leaderelection.RunOrDie(running, election)
	}
}
