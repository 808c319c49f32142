package rsocket

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listenAs serves s over the named transport and returns the address and what a client needs.
func (s *testServer) listenAs(t testing.TB, kind string) (string, ClientConfig) {
	t.Helper()
	switch kind {
	case "tcp":
		return "tcp://" + s.listen(t), ClientConfig{}
	case "tls":
		server, client := testTLS(t)
		l, err := tls.Listen("tcp", "127.0.0.1:0", server)
		if err != nil {
			t.Fatal(err)
		}
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			if err := s.Serve(context.Background(), l); err != nil {
				t.Errorf("Serve: %v", err)
			}
		}()
		t.Cleanup(func() { s.Close(); <-gone })
		return "tls://" + l.Addr().String(), ClientConfig{TLS: client}
	}
	h := httptest.NewUnstartedServer(s.WebSocket())
	var cfg ClientConfig
	scheme := "ws://"
	if kind == "wss" {
		h.TLS, cfg.TLS = testTLS(t)
		h.TLS.NextProtos = []string{"http/1.1"}
		h.StartTLS()
		scheme = "wss://"
	} else {
		h.Start()
	}
	t.Cleanup(func() { h.Close(); http.DefaultClient.CloseIdleConnections(); s.Close() })
	return scheme + h.Listener.Addr().String() + "/rsocket", cfg
}

// testTLS makes a throw-away certificate for 127.0.0.1.
func testTLS(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{RootCAs: pool}
}

// insecureTLS is for peers in another process, which do not have the test's certificate.
func insecureTLS() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }
