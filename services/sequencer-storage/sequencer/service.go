package sequencer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	consumerv1 "github.com/lockstep-mq/lockstep/api/consumer/v1"
	notifyv1 "github.com/lockstep-mq/lockstep/api/notify/v1"
	sequencerv1 "github.com/lockstep-mq/lockstep/api/sequencer/v1"
	"github.com/lockstep-mq/lockstep/libs/message-common/fault"
	"github.com/lockstep-mq/lockstep/libs/message-common/lane"
	"github.com/lockstep-mq/lockstep/libs/service-kit/life"
	"github.com/lockstep-mq/lockstep/libs/service-kit/notify"
	"github.com/lockstep-mq/lockstep/libs/service-kit/rpc"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/archive"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/assign"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/catalogue"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/committer"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/datadir"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/engine"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/herald"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/ledger"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/materialiser"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/recovery"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/retention"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/seal"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/segment"
	"github.com/lockstep-mq/lockstep/services/sequencer-storage/sequencer/internal/tip"
)

// Deps are what the service is given.
type Deps struct {
	Log *slog.Logger
	// Metrics may be nil.
	Metrics prometheus.Registerer
	// Bus carries notifications; nil means nobody is told, and readers poll.
	Bus *notify.Bus
	// Consumers is consumer-state; nil means that no cursors are known.
	Consumers grpc.ClientConnInterface
}

// Service is the service over one data directory. Make with New, run with Run once.
type Service struct {
	cfg Config
	log *slog.Logger
	reg prometheus.Registerer // may be nil

	dir       *datadir.Dir
	engine    *engine.Engine
	catalogue *catalogue.Catalogue
	witness   *tip.Witness
	ledger    *ledger.Ledger
	assigner  *assign.Assigner
	committer *committer.Committer[*assign.Append]
	sealer    *seal.Sealer
	state     *materialiser.Materialiser
	herald    *herald.Herald
	sweeper   *retention.Sweeper
	archive   *archive.Archive
	consumers consumerv1.ConsumerStateClient // nil when there are none
	metrics   *metrics

	streamsMu sync.Mutex // makes creating and deleting streams one after another
	epochs    epochs
	passed    passed
	running   atomic.Bool
}

// New opens the data directory and recovers it. On an error nothing is held. Faults: InUse, ForeignData, UnsupportedVersion, Corrupt.
// A Service that is not run must be closed.
func New(cfg Config, deps Deps) (_ *Service, err error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s := &Service{cfg: cfg, log: deps.Log, reg: deps.Metrics}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.dir, err = datadir.Open(cfg.Dir, true); err != nil {
		return nil, err
	}
	if s.catalogue, err = catalogue.Open(s.dir.Catalogue(), false); err != nil {
		return nil, err
	}
	var tips map[segment.LaneNumber]tip.Tip
	if s.witness, tips, err = tip.Open(s.dir.Witness(), false); err != nil {
		return nil, err
	}
	if s.engine, err = engine.Open(engine.Dirs{Log: s.dir.Log(), State: s.dir.State()}, cfg.engine()); err != nil {
		return nil, err
	}
	began := time.Now()
	found, err := recovery.Recover(s.engine, s.catalogue, tips)
	if err != nil {
		return nil, err
	}
	for _, x := range found.Leftovers {
		if err := retention.Delete(s.engine, s.catalogue, x.Segment, x.Lane); err != nil {
			return nil, err
		}
	}
	s.ledger = found.Ledger
	s.wire(deps, found)
	if err := s.openArchive(); err != nil {
		return nil, err
	}
	for _, p := range found.Problems {
		s.log.Error("a lane is not served", "stream", p.Lane.Stream, "partition", p.Lane.ID.Partition, "error", p.Err)
	}
	s.log.Info("recovered", "dir", cfg.Dir, "streams", len(s.ledger.Streams()), "segment", found.Open, "seconds", time.Since(began).Seconds(), "rocksdb", s.engine.LibraryVersion())
	return s, nil
}

// wire connects the rooms.
func (s *Service) wire(deps Deps, found *recovery.Found) {
	if deps.Consumers != nil {
		s.consumers = consumerv1.NewConsumerStateClient(deps.Consumers)
	}
	s.herald = herald.New(func(n *notifyv1.Notification) {
		if deps.Bus != nil {
			_ = deps.Bus.Publish(n) // a lost hint: pollers see the change
		}
	})
	s.state = materialiser.New(
		materialiser.Env{Engine: s.engine, Passed: s.passed.lowest, Digested: s.herald.Digested, Log: s.log},
		materialiser.Config{ElementBytes: s.cfg.ElementBytes, TombstoneMaxCount: s.cfg.TombstoneMaxCount, TombstoneMaxAge: s.cfg.TombstoneMaxAge},
	)
	s.sealer = seal.New(s.catalogue.Seal, s.log, found.Sealed)
	for _, l := range s.ledger.Lanes() {
		for _, x := range l.Extents() {
			if x.Segment > found.Sealed {
				s.sealer.Touch(x.Segment, l)
			}
		}
		if mark, ok := found.Marks[l.Number]; ok && l.Keyed {
			s.state.Add(l, mark)
		}
	}
	for _, stream := range s.ledger.Deleted() {
		for _, l := range stream.Lanes {
			for _, x := range l.Extents() {
				if x.Segment > found.Sealed {
					s.sealer.Touch(x.Segment, l)
				}
			}
		}
	}
	s.sealer.Reach(found.Open)
	s.assigner = assign.New(assign.Env{
		NewestEpoch: s.epochs.newest, FreeBytes: s.dir.FreeBytes, ReserveBytes: s.cfg.ReserveBytes, SegmentBytes: s.cfg.SegmentBytes,
	}, found.Open, found.OpenBytes)
	s.committer = committer.New(committer.Env[*assign.Append]{
		Prepare: s.assigner.Prepare,
		Write:   func() error { return s.engine.Write(s.assigner.Write()) },
		Sync:    s.sync,
		Publish: s.publish,
		Fail:    func(a *assign.Append, err error) { a.Done <- err },
	})
	s.sweeper = retention.New(retention.Env{
		Engine: s.engine, Catalogue: s.catalogue, Ledger: s.ledger, Stored: s.state.Stored, DropState: s.dropState,
		Sealed: s.sealer.Sealed, Passed: s.passed.lowest, Log: s.log,
	})
	s.metrics = newMetrics(deps.Metrics, figures{
		stopped: func() float64 {
			n := 0
			for _, l := range s.ledger.Lanes() {
				if l.Standing().Stopped != nil {
					n++
				}
			}
			return float64(n)
		},
		pendingBytes: func() float64 { _, bytes := s.committer.Pending(); return float64(bytes) },
		undigested: func() float64 {
			var n lane.Sequence
			for _, l := range s.ledger.Lanes() {
				if at := l.Standing(); at.Mark != nil {
					n += at.Tail - min(at.Tail, at.Mark.Sequence)
				}
			}
			return float64(n)
		},
		tombstones: s.state.Tombstones,
		snapshots:  func() archive.Counts { return s.archive.Counts() }, // it is opened after this
	})
}

// dropState ends what hangs on a lane whose stream was deleted.
func (s *Service) dropState(n segment.LaneNumber) error {
	return errors.Join(s.state.Drop(n), s.archive.Forget(n))
}

// openArchive takes the kept snapshots in.
func (s *Service) openArchive() error {
	lanes := map[segment.LaneNumber]bool{}
	for _, l := range s.ledger.Lanes() {
		lanes[l.Number] = true
	}
	var err error
	s.archive, err = archive.Open(s.dir.Snapshots(), archive.Env{
		Catalogue: s.catalogue, Pin: s.pin, FreeBytes: s.dir.FreeBytes, ReserveBytes: s.cfg.ReserveBytes, DiskBytes: uint64(s.cfg.SnapshotDiskBytes),
		Now: time.Now, Log: s.log,
	}, func(n segment.LaneNumber) bool { return lanes[n] })
	return err
}

// Run serves until ctx ends or something fails that only a restart can put right (I5), then closes everything.
//
//	start: witness, seal, herald, state, commit, snapshots, retention, exchange, gRPC
//	stop:  the other way round: no new calls, then what was accepted is committed, then the state is written
func (s *Service) Run(ctx context.Context) error {
	defer s.Close()
	l := s.cfg.Listener
	if l == nil {
		var err error
		if l, err = net.Listen("tcp", s.cfg.Address); err != nil {
			return fault.New(fault.InUse, "the sequencer cannot listen on %s: %w; stop what uses the port or give another address", s.cfg.Address, err)
		}
	}
	server := rpc.NewServer(rpc.ServerConfig{}, s.log, s.reg)
	sequencerv1.RegisterSequencerServer(server, &appendServer{Service: s})
	sequencerv1.RegisterCatalogueServer(server, &catalogueServer{Service: s})
	s.running.Store(true)
	defer s.running.Store(false)
	return life.Run(ctx, s.log,
		life.Part{Name: "tip witness", Run: s.witness.Run},
		life.Part{Name: "seal", Run: s.sealer.Run},
		life.Part{Name: "herald", Run: s.herald.Run},
		life.Part{Name: "state", Run: s.state.Run},
		life.Part{Name: "commit", Run: s.committer.Run},
		life.Part{Name: "snapshots", Run: s.archive.Run},
		life.Part{Name: "retention", Run: func(ctx context.Context) error { return s.sweeper.Run(ctx, s.cfg.RetentionInterval) }},
		life.Part{Name: "exchange", Run: s.exchange},
		life.Part{Name: "gRPC", Run: func(ctx context.Context) error { return rpc.Serve(ctx, server, l, s.cfg.StopGrace) }},
	)
}

// Close closes what New opened. Only for a Service that is not run; Run does it itself.
func (s *Service) Close() error {
	var err error
	if s.engine != nil {
		s.engine.Close()
	}
	if s.witness != nil {
		err = errors.Join(err, s.witness.Close())
	}
	if s.catalogue != nil {
		err = errors.Join(err, s.catalogue.Close())
	}
	if s.dir != nil {
		err = errors.Join(err, s.dir.Close())
	}
	s.engine, s.witness, s.catalogue, s.dir = nil, nil, nil, nil
	return err
}

// Ready returns why the service cannot work, nil when it can. A stopped lane is not a reason: the others are served.
func (s *Service) Ready() error {
	if !s.running.Load() {
		return fault.New(fault.Unavailable, "the sequencer is not running")
	}
	return nil
}

// sync is the fsync before every answer (I1).
func (s *Service) sync() error {
	began := time.Now()
	if err := s.engine.Sync(); err != nil {
		return fmt.Errorf("the log cannot be made durable; the process has to end and recovery decides: %w", err)
	}
	s.metrics.fsyncSeconds.Observe(time.Since(began).Seconds())
	return nil
}

// publish makes what was fsynced visible, in this order: ledger, witness, answer, notification, state (I1).
func (s *Service) publish(group []*assign.Append) {
	s.metrics.groupAppends.Observe(float64(len(group)))
	tips := map[*ledger.Lane]tip.Tip{}
	for _, a := range group {
		if !a.Written() {
			s.metrics.refused.Inc()
			continue
		}
		a.Lane.Publish(a.Segment, &a.Header, len(a.Draft), a.Chain)
		s.sealer.Touch(a.Segment, a.Lane)
		tips[a.Lane] = tip.Tip{Epoch: a.Lane.Epoch, Tail: a.Header.Last(), Chain: a.Chain}
		s.metrics.records.Add(float64(a.Header.Count))
		s.metrics.bytes.Add(float64(len(a.Draft)))
	}
	for l, t := range tips {
		if err := s.witness.Note(l.Number, t); err != nil {
			s.log.Error("the tip witness cannot be written; lost records would not be noticed", "error", err)
		}
	}
	for _, a := range group {
		a.Answer()
		if a.Written() {
			s.herald.Published(a.Lane, a.Draft)
			s.state.Published(a.Lane, a.Draft)
		}
	}
}
