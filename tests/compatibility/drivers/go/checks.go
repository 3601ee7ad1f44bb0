package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lib/pq"
)

// limit is how long a check may take: one that hangs is an outcome, not the end of the run.
const limit = 20 * time.Second

// check does something through a driver and returns what came of it, as JSON can show it.
type check struct {
	name string
	run  func(context.Context) (any, error)
}

var numbers = regexp.MustCompile(`[0-9]+`)

// failure tells an error: of PostgreSQL its SQLSTATE and message, of a driver its message without numbers.
func failure(err error) string {
	if err == nil {
		return "no error"
	}
	var ofPgx *pgconn.PgError
	if errors.As(err, &ofPgx) {
		return ofPgx.Code + " " + ofPgx.Message
	}
	var ofPq *pq.Error
	if errors.As(err, &ofPq) {
		return string(ofPq.Code) + " " + ofPq.Message
	}
	if errors.Is(err, context.DeadlineExceeded) || pgconn.Timeout(err) {
		return "deadline exceeded"
	}
	return numbers.ReplaceAllString(err.Error(), "N")
}

// runAll runs the checks one after the other and prints a line of JSON for each.
func runAll(checks []check) {
	printer := json.NewEncoder(os.Stdout)
	printer.SetEscapeHTML(false)
	for _, each := range checks {
		line := map[string]any{"check": each.name}
		value, err := inTime(each)
		if err != nil {
			line["failed"] = failure(err)
		} else {
			line["value"] = value
		}
		if err := printer.Encode(line); err != nil {
			panic(err)
		}
	}
}

func inTime(each check) (any, error) {
	type result struct {
		value any
		err   error
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit-time.Second)
	defer cancel()
	done := make(chan result, 1)
	go func() {
		defer func() {
			if reason := recover(); reason != nil {
				done <- result{nil, fmt.Errorf("panic: %v", reason)}
			}
		}()
		value, err := each.run(ctx)
		done <- result{value, err}
	}()
	select {
	case ended := <-done:
		return ended.value, ended.err
	case <-time.After(limit):
		return nil, errors.New("no answer in time")
	}
}

// leaks is what leaks.json says: how a session is changed, and the questions that find it.
type leaks struct {
	Ways  map[string][]string
	Probe string
	Lock  string
}

func readLeaks() leaks {
	text, err := os.ReadFile(os.Getenv("COMPATIBILITY_LEAKS"))
	if err != nil {
		panic(err)
	}
	var read leaks
	if err := json.Unmarshal(text, &read); err != nil {
		panic(err)
	}
	return read
}

func main() {
	switch os.Args[1] {
	case "pgx":
		runAll(pgxChecks())
	case "pq":
		runAll(pqChecks())
	}
}
