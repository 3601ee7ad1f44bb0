package main

import (
	"context"
	"database/sql"
	"fmt"
	"sort"
	"time"

	"github.com/lib/pq"
)

type asks interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
}

// value asks by database/sql for one value and returns it as text, or the failure.
func value(ctx context.Context, conn asks, query string, arguments ...any) string {
	rows, err := conn.QueryContext(ctx, query, arguments...)
	if err != nil {
		return failure(err)
	}
	defer rows.Close()
	var got []string
	for rows.Next() {
		var text sql.NullString
		if err := rows.Scan(&text); err != nil {
			return failure(err)
		}
		got = append(got, text.String)
	}
	if err := rows.Err(); err != nil {
		return failure(err)
	}
	return fmt.Sprint(got)
}

// pooled runs a check with a pool of `size` connections.
func pooled(size int, parameters string, run func(context.Context, *sql.DB) (any, error)) func(context.Context) (any, error) {
	return func(ctx context.Context) (any, error) {
		db, err := sql.Open("postgres", dsn()+parameters)
		if err != nil {
			return nil, err
		}
		defer db.Close()
		db.SetMaxOpenConns(size)
		return run(ctx, db)
	}
}

func pqChecks() []check {
	var checks []check
	for _, kind := range []struct{ name, parameters string }{
		{"text", ""}, {"binary", " binary_parameters=yes"},
	} {
		for name, run := range map[string]func(context.Context, *sql.DB) (any, error){
			"values and errors": pqValues, "prepared": pqPrepared, "several statements": pqSeveral,
		} {
			checks = append(checks, check{fmt.Sprintf("%s: %s parameters", name, kind.name), pooled(1, kind.parameters, run)})
		}
	}
	checks = append(checks, check{"copy in", pooled(1, "", pqCopy)}, check{"deadline of a context", pooled(1, "", pqDeadline)},
		check{"listener", pqListener})
	for _, level := range []sql.IsolationLevel{sql.LevelReadUncommitted, sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable} {
		for _, readOnly := range []bool{false, true} {
			checks = append(checks, check{fmt.Sprintf("transaction: %s, read only %t", level, readOnly),
				pooled(1, "", pqTransaction(sql.TxOptions{Isolation: level, ReadOnly: readOnly}))})
		}
	}
	read := readLeaks()
	for name, way := range read.Ways {
		checks = append(checks, check{"leak: " + name, pooled(1, "", pqLeak(read, way))})
	}
	sort.Slice(checks, func(a, b int) bool { return checks[a].name < checks[b].name })
	return checks
}

func pqValues(ctx context.Context, db *sql.DB) (any, error) {
	var got []string
	for range 2 {
		got = append(got,
			value(ctx, db, "SELECT $1::int + 1", 41), value(ctx, db, "SELECT $1::text", "né"),
			value(ctx, db, "SELECT 1 / $1::int", 0), value(ctx, db, "SELEC 1"), value(ctx, db, "SELECT * FROM nosuch"),
			value(ctx, db, "SELECT array_length($1::int[], 1)", pq.Array([]int{1, 2, 3})),
			value(ctx, db, "SELECT md5($1::bytea)", []byte{0, 1, 255}), value(ctx, db, "SELECT $1::text IS NULL", nil))
	}
	return got, nil
}

func pqPrepared(ctx context.Context, db *sql.DB) (any, error) {
	var got []string
	first, err := db.PrepareContext(ctx, "SELECT $1::int + 1")
	if err != nil {
		return nil, err
	}
	second, err := db.PrepareContext(ctx, "SELECT $1::int + 1")
	if err != nil {
		return nil, err
	}
	for range 3 {
		var one, two int
		got = append(got, failure(first.QueryRowContext(ctx, 1).Scan(&one)), failure(second.QueryRowContext(ctx, 2).Scan(&two)))
		got = append(got, fmt.Sprint(one, " ", two))
	}
	got = append(got, failure(first.Close()), failure(second.Close()))
	_, err = db.PrepareContext(ctx, "SELECT * FROM nosuch")
	return append(got, failure(err), value(ctx, db, "SELECT 1")), nil
}

func pqSeveral(ctx context.Context, db *sql.DB) (any, error) {
	var got []string
	rows, err := db.QueryContext(ctx, "SELECT 1; SELECT 2 UNION ALL SELECT 3")
	if err != nil {
		return nil, err
	}
	for more := true; more; more = rows.NextResultSet() {
		for rows.Next() {
			var number int
			if err := rows.Scan(&number); err != nil {
				return nil, err
			}
			got = append(got, fmt.Sprint(number))
		}
		got = append(got, "end")
	}
	_, err = db.ExecContext(ctx, "SELECT 1; SELECT 1 / 0")
	return append(got, failure(rows.Close()), failure(err), value(ctx, db, "SELECT 4")), nil
}

func pqCopy(ctx context.Context, db *sql.DB) (any, error) {
	if _, err := db.ExecContext(ctx, "CREATE TABLE pq_copied (n int PRIMARY KEY, name text)"); err != nil {
		return nil, err
	}
	var got []string
	for range 2 {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return nil, err
		}
		statement, err := tx.PrepareContext(ctx, pq.CopyIn("pq_copied", "n", "name"))
		if err != nil {
			return nil, err
		}
		for i := range 1000 {
			if _, err := statement.ExecContext(ctx, i, "name"); err != nil {
				return nil, err
			}
		}
		// The second time every row is there already.
		_, err = statement.ExecContext(ctx)
		got = append(got, failure(err), failure(statement.Close()), failure(tx.Commit()), value(ctx, db, "SELECT count(*) FROM pq_copied"))
	}
	return got, nil
}

func pqDeadline(ctx context.Context, db *sql.DB) (any, error) {
	var got []string
	for range 3 {
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		got = append(got, value(short, db, "SELECT pg_sleep(15)"))
		cancel()
		got = append(got, value(ctx, db, "SELECT 'after'"))
	}
	return got, nil
}

func pqListener(ctx context.Context) (any, error) {
	listener := pq.NewListener(dsn(), 100*time.Millisecond, time.Second, nil)
	defer listener.Close()
	if err := listener.Listen("pq_news"); err != nil {
		return nil, err
	}
	return pooled(1, "", func(ctx context.Context, db *sql.DB) (any, error) {
		var got []string
		for i := range 3 {
			if _, err := db.ExecContext(ctx, "SELECT pg_notify('pq_news', $1)", fmt.Sprint(i)); err != nil {
				return nil, err
			}
			select {
			case notification := <-listener.Notify:
				got = append(got, notification.Channel+" "+notification.Extra)
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return got, nil
	})(ctx)
}

func pqTransaction(options sql.TxOptions) func(context.Context, *sql.DB) (any, error) {
	return func(ctx context.Context, db *sql.DB) (any, error) {
		var got []string
		for range 2 {
			tx, err := db.BeginTx(ctx, &options)
			if err != nil {
				return nil, err
			}
			got = append(got, value(ctx, tx, "SELECT current_setting('transaction_isolation')"),
				value(ctx, tx, "SELECT current_setting('transaction_read_only')"))
			_, err = tx.ExecContext(ctx, "INSERT INTO items (name) VALUES ($1)", "pq")
			got = append(got, failure(err), failure(tx.Commit()), value(ctx, db, "SELECT current_setting('transaction_isolation')"))
		}
		return got, nil
	}
}

func pqLeak(read leaks, way []string) func(context.Context, *sql.DB) (any, error) {
	return func(ctx context.Context, db *sql.DB) (any, error) {
		got := map[string]any{}
		conn, err := db.Conn(ctx)
		if err != nil {
			return nil, err
		}
		var changes []string
		for _, statement := range way {
			_, err := conn.ExecContext(ctx, statement)
			changes = append(changes, failure(err))
		}
		got["changes"] = changes
		if err := conn.Close(); err != nil {
			return nil, err
		}
		got["next user of the pool"] = []string{value(ctx, db, read.Probe), value(ctx, db, read.Lock)}
		got["another client"], err = pooled(1, "", func(ctx context.Context, db *sql.DB) (any, error) {
			return []string{value(ctx, db, read.Probe), value(ctx, db, read.Lock)}, nil
		})(ctx)
		if err != nil {
			return nil, err
		}
		if err := db.Close(); err != nil {
			return nil, err
		}
		got["another client after the pool's end"], err = pooled(1, "", func(ctx context.Context, db *sql.DB) (any, error) {
			return value(ctx, db, read.Probe), nil
		})(ctx)
		return got, err
	}
}
