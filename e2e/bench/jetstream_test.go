package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The environment by which the test's own program becomes a NATS server: the one in this repository's go.mod, in its own process.
const (
	jetStreamDir  = "LOCKSTEP_BENCH_JETSTREAM"
	jetStreamSync = "LOCKSTEP_BENCH_JETSTREAM_SYNC_ALWAYS"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(jetStreamDir); dir != "" {
		if err := serveJetStream(dir, os.Getenv(jetStreamSync) != ""); err != nil {
			fmt.Fprintln(os.Stderr, "the NATS server:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serveJetStream prints the server's address and serves until stdin ends.
func serveJetStream(dir string, syncAlways bool) error {
	s, err := server.NewServer(&server.Options{
		ServerName: "bench", Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true,
		JetStream: true, StoreDir: dir, SyncAlways: syncAlways, MaxPending: 256 << 20,
	})
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		return fmt.Errorf("not ready after 10 s")
	}
	fmt.Println(s.ClientURL())
	_, err = io.Copy(io.Discard, os.Stdin)
	s.Shutdown()
	s.WaitForShutdown()
	return err
}

// jetStream is a NATS server process with JetStream on files.
type jetStream struct {
	pid int
	url string
}

// startJetStream starts one on fresh data. Without syncAlways it fsyncs every two minutes, its default.
func startJetStream(b *testing.B, syncAlways bool) *jetStream {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), jetStreamDir+"="+b.TempDir())
	if syncAlways {
		cmd.Env = append(cmd.Env, jetStreamSync+"=1")
	}
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			b.Errorf("the NATS server: %v", err)
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatalf("the NATS server said nothing: %v", err)
	}
	return &jetStream{pid: cmd.Process.Pid, url: strings.TrimSpace(line)}
}

// connect makes a connection of its own, as every producer and consumer has.
func (j *jetStream) connect(b *testing.B) jetstream.JetStream {
	b.Helper()
	conn, err := nats.Connect(j.url, nats.MaxReconnects(0))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(conn.Close)
	js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(jetStreamWindow))
	if err != nil {
		b.Fatal(err)
	}
	return js
}

// jetStreamWindow is how many records of a producer are unanswered at most, about as many bytes as its producers have with us.
const jetStreamWindow = 4096

func (j *jetStream) createStream(b *testing.B, name string) {
	b.Helper()
	_, err := j.connect(b).CreateStream(b.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{name}, Storage: jetstream.FileStorage, Replicas: 1, Duplicates: time.Second})
	if err != nil {
		b.Fatal(err)
	}
}

// publish sends the load, a message a record, and returns when every record was answered.
func (j *jetStream) publish(b *testing.B, l load) {
	b.Helper()
	var wg sync.WaitGroup
	failed := make(chan error, l.producers)
	for p := range l.producers {
		js := j.connect(b)
		wg.Go(func() {
			if err := jetStreamProduce(b.Context(), js, l, p); err != nil {
				failed <- fmt.Errorf("producer %d: %w", p, err)
			}
		})
	}
	wg.Wait()
	close(failed)
	for err := range failed {
		b.Fatal(err)
	}
}

func jetStreamProduce(ctx context.Context, js jetstream.JetStream, l load, p int) error {
	from := newValues(p)
	answers := make(chan jetstream.PubAckFuture, jetStreamWindow)
	answered := make(chan error, 1)
	go func() { // ends with the last answer, or the first failure
		for f := range answers {
			if err := jetStreamAnswer(ctx, f); err != nil {
				answered <- err
				return
			}
		}
		answered <- nil
	}()
	for range l.records / l.producers {
		f, err := js.PublishAsync(l.stream, from.next(l.recordBytes), jetstream.WithStallWait(patience))
		if err != nil {
			return err
		}
		select {
		case answers <- f:
		case err := <-answered:
			return err
		}
	}
	close(answers)
	return <-answered
}

func jetStreamAnswer(ctx context.Context, f jetstream.PubAckFuture) error {
	select {
	case <-f.Ok():
		return nil
	case err := <-f.Err():
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pace publishes n stamped records at rate a second and returns when all were answered.
func (j *jetStream) pace(b *testing.B, stream string, rate, n int) {
	b.Helper()
	js := j.connect(b)
	answers := make([]jetstream.PubAckFuture, 0, n)
	atRate(rate, n, func() {
		value := make([]byte, 128)
		stamp(value)
		f, err := js.PublishAsync(stream, value, jetstream.WithStallWait(patience))
		if err != nil {
			b.Fatal(err)
		}
		answers = append(answers, f)
	})
	for _, f := range answers {
		if err := jetStreamAnswer(b.Context(), f); err != nil {
			b.Fatal(err)
		}
	}
}

// jetStreamFollower is an ordered consumer.
type jetStreamFollower struct {
	consumer jetstream.Consumer
}

func (j *jetStream) follow(b *testing.B, stream string) *jetStreamFollower {
	b.Helper()
	c, err := j.connect(b).OrderedConsumer(b.Context(), stream, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy})
	if err != nil {
		b.Fatal(err)
	}
	return &jetStreamFollower{consumer: c}
}

// start begins to receive n messages, whose order the client keeps; wait returns when all have come.
func (f *jetStreamFollower) start(n int, visit func(value []byte)) (wait func(context.Context) error, err error) {
	done := make(chan struct{})
	received := 0
	consuming, err := f.consumer.Consume(func(m jetstream.Msg) {
		visit(m.Data())
		if received++; received == n {
			close(done)
		}
	})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		defer consuming.Stop()
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}, nil
}
