package main

import (
	"context"
	"crypto/md5"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

var modes = []pgx.QueryExecMode{
	pgx.QueryExecModeCacheStatement,
	pgx.QueryExecModeCacheDescribe,
	pgx.QueryExecModeDescribeExec,
	pgx.QueryExecModeExec,
	pgx.QueryExecModeSimpleProtocol,
}

func dsn() string {
	return fmt.Sprintf("host=%s port=%s user=%s password='%s' dbname=%s sslmode=disable",
		os.Getenv("PGHOST"), os.Getenv("PGPORT"), os.Getenv("PGUSER"), os.Getenv("PGPASSWORD"), os.Getenv("PGDATABASE"))
}

type withConn func(context.Context, *pgx.Conn) (any, error)

// connected runs a check on a connection of its own.
func connected(mode pgx.QueryExecMode, run withConn) func(context.Context) (any, error) {
	return func(ctx context.Context) (any, error) {
		config, err := pgx.ParseConfig(dsn())
		if err != nil {
			return nil, err
		}
		config.DefaultQueryExecMode = mode
		conn, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			return nil, err
		}
		defer conn.Close(context.Background())
		return run(ctx, conn)
	}
}

type asker interface {
	Query(context.Context, string, ...any) (pgx.Rows, error)
}

// text asks for one value and returns it as text, or the failure.
func text(ctx context.Context, conn asker, sql string, arguments ...any) string {
	rows, err := conn.Query(ctx, sql, arguments...)
	if err != nil {
		return failure(err)
	}
	value, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[any])
	if err != nil {
		return failure(err)
	}
	return fmt.Sprint(value)
}

func pgxChecks() []check {
	var checks []check
	for _, mode := range modes {
		for _, each := range []struct {
			name string
			run  withConn
		}{
			{"values", modeValues},
			{"errors and use after them", modeErrors},
			{"batch of new and known statements", modeBatch},
			{"batch with an error, then use", modeBatchError},
			{"batch in a transaction", modeBatchTransaction},
			{"insert returning", modeInsert},
			{"rows closed early", modeClosedEarly},
			{"after DEALLOCATE ALL", modeDeallocateAll},
		} {
			checks = append(checks, check{fmt.Sprintf("%s: %s", each.name, mode), connected(mode, each.run)})
		}
	}
	plain := func(name string, run withConn) {
		checks = append(checks, check{name, connected(pgx.QueryExecModeCacheStatement, run)})
	}
	plain("prepared by name", preparedByName)
	plain("pipeline", pipeline)
	plain("several statements in one text", severalStatements)
	plain("copy in and out", copyBoth)
	plain("copy that fails, then use", copyFails)
	plain("large values", largeValues)
	plain("arrays, ranges and own types", ownTypes)
	plain("cancel request", cancelRequest)
	plain("large object", largeObject)
	checks = append(checks, sessionChecks()...)
	return append(checks, pgxLeaks()...)
}

func modeValues(ctx context.Context, conn *pgx.Conn) (any, error) {
	var got []string
	at := time.Date(2024, 2, 1, 12, 30, 0, 0, time.UTC)
	for range 3 {
		got = append(got,
			text(ctx, conn, "SELECT $1::int + 1", int32(41)),
			text(ctx, conn, "SELECT $1::text || '!'", "né"),
			text(ctx, conn, "SELECT ($1::timestamptz AT TIME ZONE 'UTC')::text", at),
			text(ctx, conn, "SELECT md5($1::bytea)", []byte{0, 1, 2, 255}),
			text(ctx, conn, "SELECT $1::float8 * 2", 1.25),
			text(ctx, conn, "SELECT $1::bool", true),
			text(ctx, conn, "SELECT coalesce($1::text, 'null')", nil),
			text(ctx, conn, "SELECT ($1::jsonb ->> 'a')::text", map[string]int{"a": 7}),
			text(ctx, conn, "SELECT array_length($1::int[], 1)", []int32{1, 2, 3}))
	}
	return got, nil
}

func modeErrors(ctx context.Context, conn *pgx.Conn) (any, error) {
	var got []string
	for range 2 {
		got = append(got,
			text(ctx, conn, "SELECT 1 / $1::int", int32(0)),
			text(ctx, conn, "SELEC 1"),
			text(ctx, conn, "SELECT * FROM nosuch"),
			text(ctx, conn, "SELECT $1::int", "not a number"),
			text(ctx, conn, "SELECT 1 / $1::int", int32(1)))
	}
	return got, nil
}

func batchResults(results pgx.BatchResults, count int) []string {
	var got []string
	for range count {
		rows, err := results.Query()
		if err != nil {
			got = append(got, failure(err))
			continue
		}
		value, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[int64])
		if err != nil {
			got = append(got, failure(err))
			continue
		}
		got = append(got, fmt.Sprint(value))
	}
	return append(got, "closed: "+failure(results.Close()))
}

func modeBatch(ctx context.Context, conn *pgx.Conn) (any, error) {
	var got []string
	known := "SELECT $1::bigint + 1000"
	got = append(got, text(ctx, conn, known, int64(1)))
	for round := range 4 {
		var batch pgx.Batch
		for place := range 6 {
			// New and known statements in every order, and the same new one twice.
			fresh := fmt.Sprintf("SELECT $1::bigint + %d", round*100+place/2)
			if (round+place)%3 == 0 {
				batch.Queue(known, int64(place))
			} else {
				batch.Queue(fresh, int64(place))
			}
		}
		batch.Queue(known, int64(9))
		got = append(got, batchResults(conn.SendBatch(ctx, &batch), batch.Len())...)
	}
	return append(got, text(ctx, conn, known, int64(2))), nil
}

func modeBatchError(ctx context.Context, conn *pgx.Conn) (any, error) {
	var got []string
	for round := range 3 {
		var batch pgx.Batch
		batch.Queue("SELECT $1::bigint + 1", int64(1))
		batch.Queue("SELECT $1::bigint / 0", int64(1))
		batch.Queue(fmt.Sprintf("SELECT $1::bigint + 1000 + %d", round), int64(1))
		got = append(got, batchResults(conn.SendBatch(ctx, &batch), batch.Len())...)
		var unknown pgx.Batch
		unknown.Queue("SELECT $1::bigint + 1", int64(1))
		unknown.Queue(fmt.Sprintf("SELECT $1::bigint FROM nosuch_%d", round), int64(1))
		got = append(got, batchResults(conn.SendBatch(ctx, &unknown), unknown.Len())...)
		got = append(got, text(ctx, conn, "SELECT $1::bigint + 5", int64(1)))
	}
	return got, nil
}

func modeBatchTransaction(ctx context.Context, conn *pgx.Conn) (any, error) {
	var got []string
	for _, commit := range []bool{true, false} {
		tx, err := conn.Begin(ctx)
		if err != nil {
			return nil, err
		}
		var batch pgx.Batch
		batch.Queue("SET LOCAL app.batch = 'inside'")
		batch.Queue("CREATE TABLE IF NOT EXISTS batch_rows (n int)")
		for i := range 3 {
			batch.Queue("INSERT INTO items (name, amount) VALUES ($1, $2)", "batch", i)
		}
		got = append(got, "batch: "+failure(tx.SendBatch(ctx, &batch).Close()))
		got = append(got, text(ctx, tx, "SELECT current_setting('app.batch')"))
		if commit {
			err = tx.Commit(ctx)
		} else {
			err = tx.Rollback(ctx)
		}
		got = append(got, failure(err), text(ctx, conn, "SELECT coalesce(current_setting('app.batch', true), 'null')"))
	}
	return got, nil
}

func modeInsert(ctx context.Context, conn *pgx.Conn) (any, error) {
	var got []string
	for i := range 3 {
		got = append(got, text(ctx, conn, "INSERT INTO items (name, amount) VALUES ($1, $2) RETURNING amount::text", "returning", i))
	}
	tag, err := conn.Exec(ctx, "UPDATE items SET amount = amount + 1 WHERE name = $1 AND false", "returning")
	return append(got, tag.String(), failure(err)), nil
}

func modeClosedEarly(ctx context.Context, conn *pgx.Conn) (any, error) {
	var got []string
	for range 3 {
		rows, err := conn.Query(ctx, "SELECT g, repeat('x', 100) FROM generate_series(1, $1::int) g", int32(20000))
		if err != nil {
			return nil, err
		}
		rows.Next()
		rows.Close()
		got = append(got, failure(rows.Err()), text(ctx, conn, "SELECT $1::int", int32(3)))
	}
	return got, nil
}

func modeDeallocateAll(ctx context.Context, conn *pgx.Conn) (any, error) {
	var got []string
	for _, sql := range []string{"DEALLOCATE ALL", "DISCARD ALL"} {
		got = append(got, text(ctx, conn, "SELECT $1::int + 7", int32(1)))
		_, err := conn.Exec(ctx, sql)
		got = append(got, failure(err))
		for range 3 {
			got = append(got, text(ctx, conn, "SELECT $1::int + 7", int32(1)))
		}
	}
	return got, nil
}

func preparedByName(ctx context.Context, conn *pgx.Conn) (any, error) {
	var got []string
	description, err := conn.Prepare(ctx, "mine", "SELECT $1::int + 1 AS one, $2::text AS two")
	if err != nil {
		return nil, err
	}
	for _, field := range description.Fields {
		got = append(got, fmt.Sprint(field.Name, " ", field.DataTypeOID))
	}
	got = append(got, fmt.Sprint(description.ParamOIDs))
	raw := func(name string) {
		result := conn.PgConn().ExecPrepared(ctx, name, [][]byte{[]byte("1"), []byte("x")}, nil, nil).Read()
		got = append(got, fmt.Sprint(len(result.Rows), " ", result.CommandTag), failure(result.Err))
	}
	raw("mine")
	raw("nosuch")
	_, err = conn.PgConn().Prepare(ctx, "mine", "SELECT 2", nil)
	got = append(got, failure(err))
	raw("mine")
	got = append(got, failure(conn.Deallocate(ctx, "mine")))
	raw("mine")
	_, err = conn.PgConn().Prepare(ctx, "mine", "SELECT $1::int, $2::text, 3", nil)
	got = append(got, failure(err))
	raw("mine")
	got = append(got, failure(conn.DeallocateAll(ctx)))
	raw("mine")
	return got, nil
}

func pipeline(ctx context.Context, conn *pgx.Conn) (any, error) {
	var got []string
	pipe := conn.PgConn().StartPipeline(ctx)
	for round := range 3 {
		one, two := fmt.Sprintf("one_%d", round), fmt.Sprintf("two_%d", round)
		pipe.SendPrepare(one, "SELECT $1::int", nil)
		pipe.SendPrepare(two, "SELECT $1::int", nil)
		pipe.SendQueryPrepared(one, [][]byte{[]byte("1")}, nil, nil)
		pipe.SendQueryPrepared(two, [][]byte{[]byte("2")}, nil, nil)
		pipe.SendDeallocate(one)
		pipe.SendQueryParams("SELECT $1::text", [][]byte{[]byte("free")}, nil, nil, nil)
		if round == 1 {
			pipe.SendQueryPrepared(one, [][]byte{[]byte("gone")}, nil, nil)
			pipe.SendQueryPrepared(two, [][]byte{[]byte("skipped")}, nil, nil)
		}
		if err := pipe.Sync(); err != nil {
			return nil, err
		}
	}
	for syncs := 0; syncs < 3; {
		results, err := pipe.GetResults()
		switch result := results.(type) {
		case *pgconn.ResultReader:
			read := result.Read()
			got = append(got, fmt.Sprintf("rows %s %s", read.Rows, failure(read.Err)))
		case *pgconn.StatementDescription:
			got = append(got, fmt.Sprint("described ", result.ParamOIDs, len(result.Fields)))
		case *pgconn.PipelineSync:
			syncs++
			got = append(got, "sync")
		default:
			got = append(got, fmt.Sprintf("%T %s", results, failure(err)))
			if conn.PgConn().IsClosed() {
				return got, nil
			}
		}
	}
	return append(got, failure(pipe.Close()), text(ctx, conn, "SELECT 1")), nil
}

func severalStatements(ctx context.Context, conn *pgx.Conn) (any, error) {
	var got []string
	for _, sql := range []string{
		"SELECT 1; SELECT 2, 3; SELECT 'x'",
		"SELECT 1; SELECT 1 / 0; SELECT 2",
		"BEGIN; INSERT INTO items (name) VALUES ('several'); COMMIT; SELECT 1 / 0",
		"SELECT count(*) FROM items WHERE name = 'several'",
		"",
	} {
		results, err := conn.PgConn().Exec(ctx, sql).ReadAll()
		for _, result := range results {
			got = append(got, fmt.Sprintf("%s %s", result.Rows, result.CommandTag))
		}
		got = append(got, failure(err), string(conn.PgConn().TxStatus()))
	}
	return got, nil
}

func copyBoth(ctx context.Context, conn *pgx.Conn) (any, error) {
	if _, err := conn.Exec(ctx, "CREATE TABLE copied (n int, name text)"); err != nil {
		return nil, err
	}
	rows := make([][]any, 5000)
	for i := range rows {
		rows[i] = []any{i, strings.Repeat("r", i%50)}
	}
	var got []string
	for range 2 {
		count, err := conn.CopyFrom(ctx, pgx.Identifier{"copied"}, []string{"n", "name"}, pgx.CopyFromRows(rows))
		got = append(got, fmt.Sprint(count, " ", failure(err)))
	}
	var out strings.Builder
	tag, err := conn.PgConn().CopyTo(ctx, &out, "COPY (SELECT * FROM copied ORDER BY n, name) TO STDOUT")
	got = append(got, tag.String(), failure(err), fmt.Sprintf("%x", md5.Sum([]byte(out.String()))))
	tag, err = conn.PgConn().CopyFrom(ctx, strings.NewReader(out.String()), "COPY copied FROM STDIN")
	return append(got, tag.String(), failure(err), text(ctx, conn, "SELECT count(*) FROM copied")), nil
}

func copyFails(ctx context.Context, conn *pgx.Conn) (any, error) {
	var got []string
	if _, err := conn.Exec(ctx, "CREATE TABLE copied_once (n int PRIMARY KEY)"); err != nil {
		return nil, err
	}
	for range 2 {
		count, err := conn.CopyFrom(ctx, pgx.Identifier{"copied_once"}, []string{"n"}, pgx.CopyFromRows([][]any{{1}, {1}}))
		got = append(got, fmt.Sprint(count, " ", failure(err)))
		_, err = conn.PgConn().CopyFrom(ctx, strings.NewReader("1\nx\n"), "COPY copied_once FROM STDIN")
		got = append(got, failure(err))
		_, err = conn.PgConn().CopyFrom(ctx, strings.NewReader("1\n"), "SELECT 5")
		got = append(got, failure(err))
		broken := pgx.CopyFromFunc(func() ([]any, error) { return nil, fmt.Errorf("the source breaks") })
		_, err = conn.CopyFrom(ctx, pgx.Identifier{"copied_once"}, []string{"n"}, broken)
		got = append(got, failure(err))
	}
	return append(got, text(ctx, conn, "SELECT count(*) FROM copied_once")), nil
}

func largeValues(ctx context.Context, conn *pgx.Conn) (any, error) {
	large := strings.Repeat("0123456789abcdef", 1<<20)
	return []string{
		text(ctx, conn, "SELECT md5($1::text)", large),
		text(ctx, conn, "SELECT md5($1::bytea)", []byte(large)),
		fmt.Sprintf("%x", md5.Sum([]byte(text(ctx, conn, "SELECT repeat('0123456789abcdef', 1048576)")))),
		text(ctx, conn, "SELECT length('"+large+"')"),
		text(ctx, conn, "SELECT array_length($1::int[], 1)", make([]int32, 300000)),
	}, nil
}

func ownTypes(ctx context.Context, conn *pgx.Conn) (any, error) {
	made := "CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE TYPE pair AS (a int, b mood)"
	if _, err := conn.Exec(ctx, made, pgx.QueryExecModeSimpleProtocol); err != nil {
		return nil, err
	}
	for _, name := range []string{"mood", "_mood", "pair", "_pair"} {
		kind, err := conn.LoadType(ctx, name)
		if err != nil {
			return nil, err
		}
		conn.TypeMap().RegisterType(kind)
	}
	return []string{
		text(ctx, conn, "SELECT $1::mood", "happy"),
		text(ctx, conn, "SELECT $1::mood", "angry"),
		text(ctx, conn, "SELECT $1::mood[]", []string{"sad", "happy"}),
		text(ctx, conn, "SELECT ROW(1, 'sad')::pair"),
		text(ctx, conn, "SELECT ARRAY[ROW(1, 'sad')::pair, NULL]"),
		text(ctx, conn, "SELECT $1::text[]", []*string{nil, new(string)}),
		text(ctx, conn, "SELECT '[2:3][0:1]={{1,2},{3,4}}'::int[]"),
		text(ctx, conn, "SELECT int4range(1, 5)"),
		text(ctx, conn, "SELECT interval '1 day 2 hours'"),
	}, nil
}

func cancelRequest(ctx context.Context, conn *pgx.Conn) (any, error) {
	var got []string
	for range 3 {
		ended, quiet := make(chan struct{}), make(chan struct{})
		go func() {
			// A request that comes before the statement has no effect, so it is repeated.
			defer close(quiet)
			for {
				select {
				case <-ended:
					return
				case <-time.After(100 * time.Millisecond):
					_ = conn.PgConn().CancelRequest(ctx)
				}
			}
		}()
		got = append(got, text(ctx, conn, "SELECT pg_sleep(15)"))
		close(ended)
		<-quiet
	}
	return append(got, text(ctx, conn, "SELECT 'after'")), nil
}

func largeObject(ctx context.Context, conn *pgx.Conn) (any, error) {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback(context.Background())
	objects := tx.LargeObjects()
	oid, err := objects.Create(ctx, 0)
	if err != nil {
		return nil, err
	}
	object, err := objects.Open(ctx, oid, pgx.LargeObjectModeRead|pgx.LargeObjectModeWrite)
	if err != nil {
		return nil, err
	}
	written, err := object.Write([]byte("a large object"))
	if err != nil {
		return nil, err
	}
	if _, err := object.Seek(2, 0); err != nil {
		return nil, err
	}
	read := make([]byte, 5)
	if _, err := object.Read(read); err != nil {
		return nil, err
	}
	return fmt.Sprint(written, " ", string(read)), nil
}
