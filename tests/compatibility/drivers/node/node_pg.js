// node-postgres: statements with and without names, cursors, streams, COPY, its pool.
import pg from "pg";
import { from as copyFrom, to as copyTo } from "pg-copy-streams";
import Cursor from "pg-cursor";
import QueryStream from "pg-query-stream";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { address, check, leaks, outcome, reader, runAll } from "./checks.js";

async function connected(run, options = {}) {
  const client = new pg.Client({ ...address, ...options });
  client.on("error", () => {});
  await client.connect();
  try {
    return await run(client);
  } finally {
    await client.end();
  }
}

/** The rows of a statement, of several statements all of theirs, or what its error says. */
async function ask(client, text, values, name) {
  const query = name || values ? { text, values, name, rowMode: "array" } : { text, rowMode: "array" };
  const result = await outcome(client.query(query));
  const shown = (one) => (one.rows.length ? one.rows : `${one.command} ${one.rowCount}`);
  if (typeof result === "string") return result;
  return Array.isArray(result) ? result.map(shown) : shown(result);
}

for (const named of [false, true]) {
  const title = named ? "named" : "without names";
  check(`values and errors: ${title}`, () =>
    connected(async (client) => {
      const got = [];
      for (let round = 0; round < 3; round++) {
        for (const [index, [text, values]] of [
          ["SELECT $1::int + 1, $2::text, $3::bytea, $4::text", [round, "né", Buffer.from([0, 255]), null]],
          ["SELECT $1::int[], $2::jsonb, $3::bool", [[1, 2], { a: 1 }, true]],
          ["SELECT 1 / $1::int", [0]],
          ["SELEC $1", [1]],
          ["SELECT * FROM nosuch WHERE n = $1", [1]],
          ["SELECT $1::int", ["no number"]],
          ["SELECT length($1::text)", ["x".repeat(2_000_000)]],
          ["INSERT INTO items (name) VALUES ($1)", ["node"]],
        ].entries()) {
          got.push(await ask(client, text, values, named ? `statement ${index}` : undefined));
        }
      }
      return got;
    }),
  );
  check(`after DEALLOCATE ALL and DISCARD ALL: ${title}`, () =>
    connected(async (client) => {
      const got = [];
      for (const text of ["DEALLOCATE ALL", "DISCARD ALL"]) {
        got.push(await ask(client, "SELECT $1::int + 7", [1], named ? `kept ${text}` : undefined));
        got.push(await ask(client, text));
        for (let round = 0; round < 2; round++) {
          got.push(await ask(client, "SELECT $1::int + 7", [1], named ? `kept ${text}` : undefined));
        }
        got.push(await ask(client, "SELECT $1::int + 7", [1], named ? `new ${text}` : undefined));
      }
      return got;
    }),
  );
}

check("several statements", () =>
  connected(async (client) => [
    await ask(client, "SELECT 1; SELECT 2, 3"),
    await ask(client, "SELECT 1; SELECT 1 / 0; SELECT 2"),
    await ask(client, "BEGIN; INSERT INTO items (name) VALUES ('several'); COMMIT; SELECT 1 / 0"),
    await ask(client, "SELECT count(*) FROM items WHERE name = 'several'"),
    await ask(client, ""),
  ]),
);

check("many queries in the queue", () =>
  connected((client) =>
    Promise.all(Array.from({ length: 60 }, (_, n) => ask(client, `SELECT $1::int + ${n % 3}`, [n], n % 2 ? `queued ${n % 6}` : undefined))),
  ),
);

check("transactions", () =>
  connected(async (client) => {
    const got = [];
    for (const level of ["READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]) {
      for (const access of ["READ WRITE", "READ ONLY"]) {
        await client.query(`BEGIN ISOLATION LEVEL ${level} ${access}`);
        got.push(await ask(client, "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')"));
        got.push(await ask(client, "INSERT INTO items (name) VALUES ($1)", ["transaction"]));
        got.push(await ask(client, "COMMIT"));
      }
    }
    return got;
  }),
);

check("savepoints", () =>
  connected(async (client) => {
    const got = [];
    for (const text of [
      "BEGIN", "SET app.depth = '1'", "SAVEPOINT a", "SET app.depth = '2'", "SAVEPOINT b", "SET app.depth = '3'", "SELECT 1 / 0",
      "ROLLBACK TO b", "SELECT current_setting('app.depth')", "ROLLBACK TO a", "SELECT current_setting('app.depth')", "COMMIT",
      "SELECT current_setting('app.depth')",
    ]) {
      got.push(await ask(client, text));
    }
    return got;
  }),
);

check("cursor", () =>
  connected(async (client) => {
    const got = [];
    for (let round = 0; round < 3; round++) {
      const cursor = client.query(new Cursor("SELECT g FROM generate_series(1, $1::int) g", [1000]));
      got.push((await cursor.read(10)).length, (await cursor.read(100)).at(-1).g);
      await cursor.close();
      got.push(await ask(client, "SELECT 'after'"));
    }
    const broken = client.query(new Cursor("SELECT 1 / (5 - g) FROM generate_series(1, 10) g"));
    got.push(await outcome(broken.read(2)), await outcome(broken.read(10)), await ask(client, "SELECT 'after'"));
    return got;
  }),
);

check("stream", () =>
  connected(async (client) => {
    let sum = 0;
    for await (const row of client.query(new QueryStream("SELECT g FROM generate_series(1, $1::int) g", [5000], { batchSize: 50 }))) {
      sum += row.g;
    }
    let few = 0;
    for await (const _row of client.query(new QueryStream("SELECT generate_series(1, 100000)"))) {
      if (++few === 5) break;
    }
    return [sum, few, await ask(client, "SELECT 'after'")];
  }),
);

check("copy", () =>
  connected(async (client) => {
    const got = [];
    await client.query("CREATE TABLE copied (n int PRIMARY KEY, name text)");
    const lines = Array.from({ length: 5000 }, (_, n) => `${n}\tname ${n}\n`);
    for (const rows of [lines, ["1\tagain\n"], ["x\n"], ["9999\tlast\n"]]) {
      const stream = client.query(copyFrom("COPY copied FROM STDIN"));
      const done = await outcome(pipeline(Readable.from(rows), stream));
      got.push(done ?? stream.rowCount, await ask(client, "SELECT count(*) FROM copied"));
    }
    let size = 0;
    for await (const chunk of client.query(copyTo("COPY (SELECT * FROM copied ORDER BY n) TO STDOUT"))) size += chunk.length;
    return [...got, size, await ask(client, "SELECT 'after'")];
  }),
);

check("notifications", () =>
  connected((listener) =>
    connected(async (sender) => {
      const got = [];
      await listener.query("LISTEN news");
      for (let n = 0; n < 3; n++) {
        const heard = new Promise((resolve) => listener.once("notification", resolve));
        await sender.query("SELECT pg_notify('news', $1)", [`payload ${n}`]);
        const { channel, payload } = await heard;
        got.push(`${channel} ${payload}`);
      }
      return [...got, await ask(listener, "UNLISTEN *")];
    }),
  ),
);

check("time limits", () =>
  connected(
    async (client) => {
      const got = [];
      for (let n = 0; n < 2; n++) got.push(await ask(client, "SELECT pg_sleep(15)"), await ask(client, "SELECT 'after'"));
      return got;
    },
    { statement_timeout: 300, idle_in_transaction_session_timeout: 60_000, lock_timeout: 1000 },
  ),
);

check("settings and start-up", () =>
  connected(
    async (client) => {
      const question = "SELECT current_setting('app.x'), current_setting('application_name'), current_user, current_setting('TimeZone')";
      const got = [await ask(client, question)];
      for (const text of ["SET app.x = 'other'", "SET TimeZone = 'Asia/Tokyo'", `SET ROLE ${reader}`, "RESET ALL", "RESET ROLE", "DISCARD ALL"]) {
        got.push(await ask(client, text), await ask(client, question));
      }
      return got;
    },
    { application_name: "mine", options: "-c app.x=started" },
  ),
);

check("pool under load", async () => {
  const pool = new pg.Pool({ ...address, max: 3 });
  const seen = {};
  const work = async (worker) => {
    for (let turn = 0; turn < 10; turn++) {
      const client = await pool.connect();
      const want = String(worker * 1000 + turn);
      await client.query("BEGIN");
      await client.query("SELECT set_config('app.worker', $1, true)", [want]);
      const own = await ask(client, `SELECT current_setting('app.worker'), $1::text || ${turn % 4}`, [want], `load ${turn % 4}`);
      await client.query("COMMIT");
      client.release();
      const right = own[0][0] === want && own[0][1] === `${want}${turn % 4}`;
      seen[right ? "right" : "of another"] = (seen[right ? "right" : "of another"] ?? 0) + 1;
    }
  };
  await Promise.all(Array.from({ length: 8 }, (_, worker) => work(worker)));
  await pool.end();
  return seen;
});

for (const [name, way] of Object.entries(leaks.ways)) {
  check(`leak, pg.Pool: ${name}`, async () => {
    const pool = new pg.Pool({ ...address, max: 1 });
    pool.on("error", () => {});
    const got = { changes: [] };
    const first = await pool.connect();
    for (const text of way) got.changes.push(await ask(first, text));
    first.release();
    got["next user of the pool"] = [await ask(pool, leaks.probe), await ask(pool, leaks.lock)];
    got["another client"] = await connected(async (other) => [await ask(other, leaks.probe), await ask(other, leaks.lock)]);
    await pool.end();
    got["another client after the pool's end"] = await connected((other) => ask(other, leaks.probe));
    return got;
  });
}

await runAll();
