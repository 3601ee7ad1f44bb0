package main

import (
	"context"
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

func sessionChecks() []check {
	plain := func(name string, run withConn) check {
		return check{name, connected(pgx.QueryExecModeCacheStatement, run)}
	}
	checks := []check{
		plain("nested savepoints", savepoints),
		plain("transaction after an error", failedTransaction),
		plain("LISTEN", listen),
		plain("settings", settings),
		{"start-up parameters", startUp},
		{"deadline of a context", deadline},
		{"pool under load", poolUnderLoad},
		{"pool: notification while others work", poolListen},
	}
	for _, level := range []pgx.TxIsoLevel{pgx.Serializable, pgx.RepeatableRead, pgx.ReadCommitted, pgx.ReadUncommitted} {
		for _, access := range []pgx.TxAccessMode{pgx.ReadWrite, pgx.ReadOnly} {
			for _, deferrable := range []pgx.TxDeferrableMode{pgx.Deferrable, pgx.NotDeferrable} {
				options := pgx.TxOptions{IsoLevel: level, AccessMode: access, DeferrableMode: deferrable}
				name := fmt.Sprintf("transaction: %s %s %s", level, access, deferrable)
				checks = append(checks, plain(name, transaction(options)))
			}
		}
	}
	return checks
}

func transaction(options pgx.TxOptions) withConn {
	return func(ctx context.Context, conn *pgx.Conn) (any, error) {
		var got []string
		for range 2 {
			tx, err := conn.BeginTx(ctx, options)
			if err != nil {
				return nil, err
			}
			for _, name := range []string{"transaction_isolation", "transaction_read_only", "transaction_deferrable"} {
				got = append(got, text(ctx, tx, "SELECT current_setting($1)", name))
			}
			_, err = tx.Exec(ctx, "INSERT INTO items (name) VALUES ($1)", "transaction")
			got = append(got, failure(err), failure(tx.Commit(ctx)))
		}
		return append(got, text(ctx, conn, "SELECT current_setting('transaction_isolation')")), nil
	}
}

func savepoints(ctx context.Context, conn *pgx.Conn) (any, error) {
	var got []string
	tx, err := conn.Begin(ctx)
	if err != nil {
		return nil, err
	}
	tell := func() { got = append(got, text(ctx, conn, "SELECT current_setting('app.depth', true)")) }
	set := func(at pgx.Tx, value string) {
		_, err := at.Exec(ctx, "SELECT set_config('app.depth', $1, false)", value)
		got = append(got, failure(err))
		tell()
	}
	set(tx, "1")
	inner, err := tx.Begin(ctx)
	if err != nil {
		return nil, err
	}
	set(inner, "2")
	innermost, err := inner.Begin(ctx)
	if err != nil {
		return nil, err
	}
	set(innermost, "3")
	got = append(got, text(ctx, innermost, "SELECT 1 / 0"), failure(innermost.Rollback(ctx)))
	tell()
	got = append(got, failure(inner.Commit(ctx)))
	tell()
	again, err := tx.Begin(ctx)
	if err != nil {
		return nil, err
	}
	set(again, "4")
	got = append(got, failure(again.Rollback(ctx)))
	tell()
	got = append(got, failure(tx.Commit(ctx)))
	tell()
	return got, nil
}

func failedTransaction(ctx context.Context, conn *pgx.Conn) (any, error) {
	var got []string
	for range 2 {
		tx, err := conn.Begin(ctx)
		if err != nil {
			return nil, err
		}
		got = append(got, text(ctx, tx, "SELECT 1 / 0"), text(ctx, tx, "SELECT 1"), failure(tx.Commit(ctx)))
		got = append(got, text(ctx, conn, "SELECT 2"))
	}
	return got, nil
}

func listen(ctx context.Context, conn *pgx.Conn) (any, error) {
	var got []string
	if _, err := conn.Exec(ctx, "LISTEN news"); err != nil {
		return nil, err
	}
	for i := range 3 {
		if _, err := conn.Exec(ctx, "SELECT pg_notify('news', $1)", fmt.Sprint("payload ", i)); err != nil {
			return nil, err
		}
		notification, err := conn.WaitForNotification(ctx)
		if err != nil {
			return nil, err
		}
		got = append(got, notification.Channel+" "+notification.Payload)
	}
	_, err := conn.Exec(ctx, "UNLISTEN *")
	return append(got, failure(err), text(ctx, conn, "SELECT count(*) FROM pg_listening_channels()")), nil
}

func settings(ctx context.Context, conn *pgx.Conn) (any, error) {
	var got []string
	for _, sql := range []string{
		"SET datestyle = 'SQL, DMY'", "SET datestyle = 'ISO'", "SET TimeZone = 'Asia/Tokyo'", "SET app.x = '1'", "RESET app.x",
		"SET statement_timeout = 54321", "SET extra_float_digits = 0", "SET ROLE compatibility_reader", "RESET ALL", "RESET ROLE",
		"SET application_name = 'mine'", "SET client_encoding = 'LATIN1'", "RESET client_encoding",
	} {
		_, err := conn.Exec(ctx, sql)
		got = append(got, sql+": "+failure(err))
		got = append(got, text(ctx, conn, "SELECT concat_ws(' ', current_setting('DateStyle'), '01/02/2024'::date - '2024-01-01'::date, "+
			"current_setting('TimeZone'), '<' || current_setting('app.x', true) || '>', current_setting('statement_timeout'), current_user)",
			// Parsed anew each time: a prepared statement keeps its literals as they were read at first.
			pgx.QueryExecModeExec))
		for _, name := range []string{"DateStyle", "TimeZone", "application_name", "client_encoding", "is_superuser"} {
			got = append(got, name+" "+conn.PgConn().ParameterStatus(name))
		}
	}
	return got, nil
}

func startUp(ctx context.Context) (any, error) {
	config, err := pgx.ParseConfig(dsn() + " application_name=mine timezone=Asia/Tokyo search_path=pg_catalog options='-c app.x=started'")
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.Background())
	ask := func() string {
		return text(ctx, conn, "SELECT concat_ws(' ', current_setting('application_name'), current_setting('TimeZone'), "+
			"current_setting('search_path'), current_setting('app.x'))")
	}
	got := []string{ask()}
	for _, sql := range []string{"SET TimeZone = 'UTC'", "SET app.x = 'other'", "RESET ALL", "DISCARD ALL"} {
		_, err := conn.Exec(ctx, sql)
		got = append(got, failure(err), ask())
	}
	return got, nil
}

func newPool(ctx context.Context, size int32, change func(*pgxpool.Config)) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(dsn())
	if err != nil {
		return nil, err
	}
	config.MaxConns = size
	if change != nil {
		change(config)
	}
	return pgxpool.NewWithConfig(ctx, config)
}

func deadline(ctx context.Context) (any, error) {
	pool, err := newPool(ctx, 1, nil)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	var got []string
	for range 3 {
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		got = append(got, text(short, pool, "SELECT pg_sleep(15)"))
		cancel()
		got = append(got, text(ctx, pool, "SELECT 'after'"))
	}
	// What was given up is ended on the server: nothing sleeps on.
	for range 100 {
		if text(ctx, pool, "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(15)' AND state = 'active' "+
			"AND datname = current_database()") == "0" {
			return append(got, "nothing sleeps on"), nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return append(got, "a given up statement runs on"), nil
}

func poolUnderLoad(ctx context.Context) (any, error) {
	pool, err := newPool(ctx, 4, nil)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	var lock sync.Mutex
	var wait sync.WaitGroup
	seen := map[string]int{}
	count := func(what string) {
		lock.Lock()
		defer lock.Unlock()
		seen[what]++
	}
	for worker := range 8 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for round := range 20 {
				want := fmt.Sprint(worker*1000 + round)
				if got := text(ctx, pool, "SELECT $1::int", worker*1000+round); got != want {
					count("got another's value: " + numbers.ReplaceAllString(got, "N"))
				}
				err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
					var batch pgx.Batch
					batch.Queue("SELECT set_config('app.worker', $1, true)", want)
					batch.Queue(fmt.Sprintf("SELECT $1::int + %d", round%5), round)
					batch.Queue("INSERT INTO items (name) VALUES ($1)", "load")
					if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
						return err
					}
					if got := text(ctx, tx, "SELECT current_setting('app.worker')"); got != want {
						count("got another's setting")
					}
					return nil
				})
				count(failure(err))
			}
		}()
	}
	wait.Wait()
	seen["rows "+text(ctx, pool, "SELECT count(*) FROM items WHERE name = 'load'")]++
	return seen, nil
}

func poolListen(ctx context.Context) (any, error) {
	pool, err := newPool(ctx, 2, nil)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, "LISTEN pool_news"); err != nil {
		return nil, err
	}
	var got []string
	for i := range 5 {
		if _, err := pool.Exec(ctx, "SELECT pg_notify('pool_news', $1)", fmt.Sprint(i)); err != nil {
			return nil, err
		}
		notification, err := conn.Conn().WaitForNotification(ctx)
		if err != nil {
			return nil, err
		}
		got = append(got, notification.Payload)
	}
	_, err = conn.Exec(ctx, "UNLISTEN *")
	return append(got, failure(err)), nil
}

// pgxLeaks changes a session of a pool in each way, gives it back, and asks the pool's next user and another client for it.
func pgxLeaks() []check {
	resets := []struct {
		name   string
		change func(*pgxpool.Config)
	}{
		{"no reset", nil},
		{"DISCARD ALL", func(config *pgxpool.Config) {
			config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
			config.AfterRelease = func(conn *pgx.Conn) bool {
				_, err := conn.Exec(context.Background(), "DISCARD ALL")
				return err == nil
			}
		}},
	}
	read := readLeaks()
	var checks []check
	for _, reset := range resets {
		for name, way := range read.Ways {
			checks = append(checks, check{fmt.Sprintf("leak, %s: %s", reset.name, name), func(ctx context.Context) (any, error) {
				return pgxLeak(ctx, read, way, reset.change)
			}})
		}
	}
	sort.Slice(checks, func(a, b int) bool { return checks[a].name < checks[b].name })
	return checks
}

func pgxLeak(ctx context.Context, read leaks, way []string, change func(*pgxpool.Config)) (any, error) {
	pool, err := newPool(ctx, 1, change)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	got := map[string]any{}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	var changes []string
	for _, sql := range way {
		_, err := conn.Exec(ctx, sql)
		changes = append(changes, failure(err))
	}
	got["changes"] = changes
	conn.Release()
	other := func(questions ...string) (any, error) {
		return connected(pgx.QueryExecModeCacheStatement, func(ctx context.Context, conn *pgx.Conn) (any, error) {
			var answers []string
			for _, sql := range questions {
				answers = append(answers, text(ctx, conn, sql))
			}
			return answers, nil
		})(ctx)
	}
	if got["next user of the pool"], err = func() (any, error) {
		conn, err := pool.Acquire(ctx)
		if err != nil {
			return nil, err
		}
		defer conn.Release()
		return []string{text(ctx, conn, read.Probe), text(ctx, conn, read.Lock)}, nil
	}(); err != nil {
		return nil, err
	}
	if got["another client"], err = other(read.Probe, read.Lock); err != nil {
		return nil, err
	}
	pool.Close()
	got["another client after the pool's end"], err = other(read.Probe)
	return got, err
}
