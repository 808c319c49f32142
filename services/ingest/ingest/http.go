package ingest

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/lockstep-mq/lockstep/services/ingest/ingest/internal/web"
)

// serveHTTP serves posts on l until ctx ends, then lets open ones end for Config.Grace. It owns l.
func (s *Service) serveHTTP(ctx context.Context, l net.Listener) error {
	handler := web.NewHandler(web.Config{
		MaxBodyBytes: int64(s.cfg.MaxRequestBytes), TotalBytes: s.cfg.TotalBytes, OverloadWait: s.cfg.OverloadWait,
	}, s.book, s.in, s.opener.open, func(records uint32, duplicate bool, err error) {
		if err != nil {
			s.metrics.refused(records, err)
			return
		}
		s.metrics.published(records, duplicate)
	})
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      30*time.Second + s.cfg.OverloadWait + s.cfg.RetryFor + s.cfg.AppendTimeout,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }() // ends at Shutdown or Close
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Grace)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		_ = server.Close() // cuts what took longer than the grace
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
