// A collector of traces for tests: the OTLP receiver of the OpenTelemetry Collector, which writes what it receives to a file,
// a line of OTLP's JSON for each message.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/config/configtls"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
)

func main() {
	file := flag.String("file", "", "where the spans are written to")
	cert := flag.String("cert", "", "the certificate, where it speaks TLS")
	key := flag.String("key", "", "its key")
	flag.Parse()
	if err := run(*file, *cert, *key); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(file, cert, key string) error {
	out, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	var lock sync.Mutex
	marshaler := ptrace.JSONMarshaler{}
	written, err := consumer.NewTraces(func(_ context.Context, traces ptrace.Traces) error {
		line, err := marshaler.MarshalTraces(traces)
		if err != nil {
			return err
		}
		lock.Lock()
		defer lock.Unlock()
		// In one piece, so that who reads sees whole lines.
		_, err = out.Write(append(line, '\n'))
		return err
	})
	if err != nil {
		return err
	}
	started, grpc, http, err := start(written, cert, key)
	if err != nil {
		return err
	}
	fmt.Printf("grpc=%s http=%s\n", grpc, http)
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	<-end
	return started.Shutdown(context.Background())
}

// start starts the receiver on two free ports. Between the search for a port and its use another process may take it.
func start(traces consumer.Traces, cert, key string) (receiver.Traces, string, string, error) {
	for try := 1; ; try++ {
		grpc, http, err := freePorts()
		if err != nil {
			return nil, "", "", err
		}
		factory := otlpreceiver.NewFactory()
		config := factory.CreateDefaultConfig().(*otlpreceiver.Config)
		grpcConfig, httpConfig := config.Protocols.GRPC.GetOrInsertDefault(), config.Protocols.HTTP.GetOrInsertDefault()
		grpcConfig.NetAddr.Endpoint, httpConfig.ServerConfig.NetAddr.Endpoint = grpc, http
		if cert != "" {
			tls := configoptional.Some(configtls.ServerConfig{Config: configtls.Config{CertFile: cert, KeyFile: key}})
			grpcConfig.TLS, httpConfig.ServerConfig.TLS = tls, tls
		}
		settings := receiver.Settings{
			ID:                component.NewID(factory.Type()),
			TelemetrySettings: componenttest.NewNopTelemetrySettings(),
			BuildInfo:         component.NewDefaultBuildInfo(),
		}
		started, err := factory.CreateTraces(context.Background(), settings, config, traces)
		if err != nil {
			return nil, "", "", err
		}
		err = started.Start(context.Background(), componenttest.NewNopHost())
		if err == nil {
			return started, grpc, http, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) || try == 10 {
			return nil, "", "", err
		}
	}
}

func freePorts() (string, string, error) {
	one, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	defer one.Close()
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	defer other.Close()
	return one.Addr().String(), other.Addr().String(), nil
}
