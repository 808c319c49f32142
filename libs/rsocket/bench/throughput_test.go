package bench

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"

	"github.com/lockstep-mq/lockstep/libs/rsocket"
)

// Every benchmark sends b.N payloads of one shared slice from server to client over one connection
// on the loopback and waits for the last. ns/op is the time per payload.
var sizes = []int{128, 1 << 10, 16 << 10}

func BenchmarkThroughput(b *testing.B) {
	for _, size := range sizes {
		data := make([]byte, size)
		for _, way := range []struct {
			name string
			run  func(*testing.B, []byte)
		}{{"rsocket-tcp", overRSocket("tcp")}, {"rsocket-ws", overRSocket("ws")}, {"grpc", overGRPC}, {"raw-tcp", overTCP}} {
			b.Run(fmt.Sprintf("%dB/%s", size, way.name), func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				way.run(b, data)
			})
		}
	}
}

func listen(b *testing.B) net.Listener {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	return l
}

// source sends its data as often as the request says.
type source struct {
	data []byte
	left uint64
}

func (s *source) Next() (rsocket.Payload, rsocket.Signal) {
	s.left--
	if s.left == 0 {
		return rsocket.Payload{Data: s.data}, rsocket.EmitAndComplete
	}
	return rsocket.Payload{Data: s.data}, rsocket.Emit
}
func (*source) Requested(uint32) {}
func (*source) Closed()          {}

type responder struct{ data []byte }

func (r responder) RequestStream(req rsocket.Payload, _ *rsocket.Outbound) (rsocket.Source, error) {
	return &source{r.data, binary.BigEndian.Uint64(req.Data)}, nil
}
func (responder) RequestResponse(context.Context, rsocket.Payload) (rsocket.Payload, error) {
	return rsocket.Payload{}, nil
}
func (responder) FireAndForget(rsocket.Payload) {}
func (responder) Closed(error)                  {}

func overRSocket(kind string) func(*testing.B, []byte) {
	return func(b *testing.B, data []byte) {
		s := rsocket.NewServer(rsocket.ServerConfig{}, func(context.Context, rsocket.Setup, *rsocket.Conn) (rsocket.Responder, error) {
			return responder{data}, nil
		})
		defer s.Close()
		l := listen(b)
		if kind == "ws" {
			h := newHTTP(s.WebSocket())
			defer h.Close()
			go func() { _ = h.Serve(l) }()
		} else {
			go func() { _ = s.Serve(context.Background(), l) }()
		}
		ctx := context.Background()
		c, err := rsocket.Dial(ctx, kind+"://"+l.Addr().String(), rsocket.ClientConfig{})
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		const window = 512 // credit in payloads, renewed by halves: what a real consumer does
		b.ResetTimer()
		in, err := c.RequestStream(ctx, rsocket.Payload{Data: binary.BigEndian.AppendUint64(nil, uint64(b.N))}, window)
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		for ; ; n++ {
			p, err := in.Recv(ctx)
			if err == io.EOF {
				break
			}
			if err != nil || len(p.Data) != len(data) {
				b.Fatal(n, err)
			}
			if n%(window/2) == window/2-1 {
				_ = in.Request(window / 2)
			}
		}
		if n != b.N {
			b.Fatalf("%d of %d payloads", n, b.N)
		}
	}
}

// rawCodec hands bytes through gRPC without protobuf: its fastest form.
type rawCodec struct{}

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}
func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}
func (rawCodec) Name() string { return "raw" }

func init() { encoding.RegisterCodecV2(rawCodec{}) }

func overGRPC(b *testing.B, data []byte) {
	stream := grpc.StreamDesc{StreamName: "Send", ServerStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
		var req []byte
		if err := s.RecvMsg(&req); err != nil {
			return err
		}
		for range binary.BigEndian.Uint64(req) {
			if err := s.SendMsg(&data); err != nil {
				return err
			}
		}
		return nil
	}}
	server := grpc.NewServer()
	server.RegisterService(&grpc.ServiceDesc{ServiceName: "bench", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{stream}}, struct{}{})
	l := listen(b)
	go func() { _ = server.Serve(l) }()
	defer server.Stop()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.CallContentSubtype("raw")))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	b.ResetTimer()
	s, err := conn.NewStream(context.Background(), &stream, "/bench/Send")
	if err != nil {
		b.Fatal(err)
	}
	req := binary.BigEndian.AppendUint64(nil, uint64(b.N))
	if err := s.SendMsg(&req); err != nil {
		b.Fatal(err)
	}
	if err := s.CloseSend(); err != nil {
		b.Fatal(err)
	}
	for n := 0; ; n++ {
		var got []byte
		err := s.RecvMsg(&got)
		if err == io.EOF && n == b.N {
			return
		}
		if err != nil || len(got) != len(data) {
			b.Fatal(n, err)
		}
	}
}

// overTCP is the floor: length and bytes through buffered writer and reader, no credit, no memory
// of its own for a payload.
func overTCP(b *testing.B, data []byte) {
	l := listen(b)
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		w := bufio.NewWriterSize(conn, 64<<10)
		var head [4]byte
		binary.BigEndian.PutUint32(head[:], uint32(len(data)))
		for range b.N {
			_, _ = w.Write(head[:])
			if _, err := w.Write(data); err != nil {
				return
			}
		}
		_ = w.Flush()
	}()
	b.ResetTimer()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 64<<10)
	got := make([]byte, len(data))
	var head [4]byte
	for range b.N {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(r, got[:binary.BigEndian.Uint32(head[:])]); err != nil {
			b.Fatal(err)
		}
	}
}
