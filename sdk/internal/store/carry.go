package store

import (
	"context"
	"fmt"
	"strings"
)

// object is something the user made in a generation.
type object struct{ kind, name, sql, table string }

// carryOver copies the user's tables with their rows, then indexes, views and triggers from the file of the generation before.
// What cannot be copied is answered by name: it does not stop the build, for the stream's rows matter more.
func (g *Generation) carryOver(ctx context.Context, previous string) (lost []string, err error) {
	if _, err := g.conn.ExecContext(ctx, "ATTACH ? AS previous", dsn(previous, readOnly)); err != nil {
		return everythingLost(err)
	}
	objects, err := g.userObjects(ctx)
	if err != nil {
		if lost, err = everythingLost(err); err != nil {
			return nil, err
		}
	}
	for _, kind := range []string{"table", "index", "view", "trigger"} { // triggers last: copying must not fire them
		for _, o := range objects {
			if o.kind != kind {
				continue
			}
			if err := g.carry(ctx, o); err != nil {
				lost = append(lost, fmt.Sprintf("%s %q: %v", o.kind, o.name, err))
			}
		}
	}
	_, err = g.conn.ExecContext(ctx, "DETACH previous")
	return lost, explain(err, "carry the user's objects over")
}

// everythingLost takes a damaged file for one without anything to carry over, and any other failure for one that passes.
func everythingLost(err error) ([]string, error) {
	if Damaged(err) {
		return []string{fmt.Sprintf("everything: %v", err)}, nil
	}
	return nil, explain(err, "carry the user's objects over")
}

func (g *Generation) userObjects(ctx context.Context) ([]object, error) {
	// Shadow tables belong to their virtual table, which makes and fills them itself.
	rows, err := g.conn.QueryContext(ctx, `SELECT type, name, sql, tbl_name FROM previous.sqlite_master
		WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\_%' ESCAPE '\' AND name NOT IN ('_lockstep_meta','_lockstep_lanes')
		AND NOT (type='table' AND name=?1)
		AND name NOT IN (SELECT name FROM pragma_table_list WHERE schema='previous' AND type='shadow')`, string(g.meta.Stream))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var objects []object
	for rows.Next() {
		var o object
		if err := rows.Scan(&o.kind, &o.name, &o.sql, &o.table); err != nil {
			return nil, err
		}
		objects = append(objects, o)
	}
	return objects, rows.Err()
}

// carry makes one object; its rows, if it has any, come in the same transaction.
func (g *Generation) carry(ctx context.Context, o object) error {
	tx, err := g.conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	if _, err := tx.ExecContext(ctx, o.sql); err != nil {
		return err
	}
	if o.kind == "table" {
		rows, err := tx.QueryContext(ctx, "SELECT name FROM pragma_table_xinfo(?1, 'previous') WHERE hidden=0", o.name)
		if err != nil {
			return err
		}
		var names []string
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				return firstOf(err, rows.Close())
			}
			names = append(names, quoted(name))
		}
		if err := firstOf(rows.Err(), rows.Close()); err != nil {
			return err
		}
		list := strings.Join(names, ",")
		if _, err := tx.ExecContext(ctx, "INSERT INTO main."+quoted(o.name)+"("+list+") SELECT "+list+" FROM previous."+quoted(o.name)); err != nil {
			return err
		}
		if strings.Contains(strings.ToUpper(o.sql), "AUTOINCREMENT") {
			_, err := tx.ExecContext(ctx, `UPDATE main.sqlite_sequence SET seq=(SELECT seq FROM previous.sqlite_sequence p WHERE p.name=?1) WHERE name=?1`, o.name)
			if err != nil {
				return err
			}
		}
	}
	return tx.Commit()
}
