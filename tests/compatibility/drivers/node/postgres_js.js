// postgres.js: pipelined queries, prepared or not, transactions, several statements in a text, cursors, COPY, LISTEN.
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import postgres from "postgres";
import { address, check, leaks, outcome, reader, runAll } from "./checks.js";

async function connected(run, options = {}) {
  const sql = postgres({ ...address, max: 1, onnotice: () => {}, ...options });
  try {
    return await run(sql);
  } finally {
    await sql.end({ timeout: 5 });
  }
}

const rows = async (promise) => {
  const result = await outcome(promise);
  return typeof result === "string" ? result : result.map((row) => (Array.isArray(row) ? row.map((one) => Object.values(one)) : Object.values(row)));
};
const text = (sql, query) => rows(sql.unsafe(query));

for (const prepare of [true, false]) {
  for (const fetch_types of [true, false]) {
    const title = `prepared ${prepare}, types fetched ${fetch_types}`;
    const options = { prepare, fetch_types };
    check(`values and errors: ${title}`, () =>
      connected(async (sql) => {
        const got = [];
        for (let round = 0; round < 3; round++) {
          got.push(await rows(sql`SELECT ${round}::int + 1, ${"né"}::text, ${null}::text, ${Buffer.from([0, 255])}::bytea`));
          got.push(await rows(sql`SELECT ${sql.json({ a: 1 })}::jsonb, ${true}::bool, ${new Date(0)}::timestamptz`));
          got.push(await rows(sql`SELECT ARRAY[1, 2]::int[], ${"{3,4}"}::text::int[]`));
          got.push(await rows(sql`SELECT 1 / ${0}::int`), await rows(sql`SELEC ${1}`), await rows(sql`SELECT * FROM nosuch`));
          got.push(await rows(sql`SELECT length(${"x".repeat(2_000_000)}::text)`));
          got.push(await rows(sql`INSERT INTO items ${sql([{ name: "a", amount: 1 }, { name: "b", amount: 2 }])} RETURNING amount`));
        }
        return got;
      }, options),
    );
    check(`pipelined: ${title}`, () =>
      connected(
        (sql) =>
          Promise.all(
            Array.from({ length: 60 }, (_, n) =>
              n % 7 === 3 ? rows(sql`SELECT 1 / ${n % 2}::int`) : rows(n % 3 ? sql`SELECT ${n}::int + 1` : sql.unsafe(`SELECT $1::int + ${n % 5}`, [n])),
            ),
          ),
        options,
      ),
    );
    check(`after DEALLOCATE ALL and DISCARD ALL: ${title}`, () =>
      connected(async (sql) => {
        const got = [];
        for (const query of ["DEALLOCATE ALL", "DISCARD ALL"]) {
          got.push(await rows(sql`SELECT ${1}::int + 7`), await text(sql, query));
          for (let round = 0; round < 3; round++) got.push(await rows(sql`SELECT ${round}::int + 7`));
        }
        return got;
      }, options),
    );
  }
}

check("several statements", () =>
  connected(async (sql) => [
    await text(sql, "SELECT 1; SELECT 2, 3"),
    await text(sql, "SELECT 1; SELECT 1 / 0; SELECT 2"),
    await rows(sql`SELECT 1; SELECT 2`.simple()),
    await text(sql, "BEGIN; INSERT INTO items (name) VALUES ('several'); COMMIT; SELECT 1 / 0"),
    await rows(sql`SELECT count(*) FROM items WHERE name = 'several'`),
  ]),
);

check("transactions", () =>
  connected(async (sql) => {
    const got = [];
    for (const level of ["read uncommitted", "read committed", "repeatable read", "serializable"]) {
      for (const access of ["read write", "read only"]) {
        got.push(
          await outcome(
            sql.begin(`isolation level ${level} ${access}`, async (inside) => {
              got.push(await rows(inside`SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')`));
              await inside`INSERT INTO items (name) VALUES ('transaction')`;
              return "committed";
            }),
          ),
        );
      }
    }
    return got;
  }),
);

check("savepoints and pipelined transactions", () =>
  connected(async (sql) => {
    const got = [];
    const depth = (of) => rows(of`SELECT current_setting('app.depth', true)`);
    got.push(
      await outcome(
        sql.begin(async (outer) => {
          await outer`SET app.depth = '1'`;
          const failed = outer.savepoint(async (inner) => {
            await inner`SET app.depth = '2'`;
            got.push(await depth(inner));
            await inner`SELECT 1 / 0`;
          });
          got.push(await outcome(failed), await depth(outer));
          await outer.savepoint("named", async (inner) => inner`SET app.depth = '3'`);
          return depth(outer);
        }),
      ),
    );
    got.push(await depth(sql));
    got.push(await outcome(sql.begin((inside) => [inside`SELECT set_config('app.depth', '4', true)`, inside`SELECT ${1}::int`, inside`SELECT 1 / 0`])));
    return [...got, await depth(sql)];
  }),
);

check("cursors", () =>
  connected(async (sql) => {
    const got = [];
    let sum = 0;
    for await (const some of sql`SELECT g FROM generate_series(1, 1000) g`.cursor(64)) sum += some.reduce((all, row) => all + row.g, 0);
    got.push(sum);
    let few = 0;
    for await (const some of sql`SELECT generate_series(1, 10000)`.cursor(10)) {
      few += some.length;
      if (few > 25) break;
    }
    got.push(few, await rows(sql`SELECT 'after'`));
    await sql`SELECT g FROM generate_series(1, ${100}::int) g`.forEach(() => few++);
    return [...got, few];
  }),
);

check("copy", () =>
  connected(async (sql) => {
    const got = [];
    await sql`CREATE TABLE copied (n int PRIMARY KEY, name text)`;
    const lines = Array.from({ length: 5000 }, (_, n) => `${n}\tname ${n}\n`);
    got.push((await outcome(pipeline(Readable.from(lines), await sql`COPY copied FROM STDIN`.writable()))) ?? "copied");
    got.push(await rows(sql`SELECT count(*) FROM copied`));
    let size = 0;
    // With `for await` the driver pauses its socket and does not always resume it.
    const out = await sql`COPY (SELECT * FROM copied ORDER BY n) TO STDOUT`.readable();
    out.on("data", (chunk) => (size += chunk.length));
    await new Promise((resolve) => out.once("end", resolve));
    return [...got, size, await rows(sql`SELECT 'after'`)];
  }),
);

check("listen", () =>
  connected(async (sql) => {
    const got = [];
    let heard;
    const listening = await sql.listen("news", (payload) => heard(payload));
    for (let n = 0; n < 3; n++) {
      const next = new Promise((resolve) => (heard = resolve));
      await sql.notify("news", `payload ${n}`);
      got.push(await next);
    }
    await listening.unlisten();
    return got;
  }),
);

check("cancel", () =>
  connected(async (sql) => {
    const got = [];
    for (let n = 0; n < 2; n++) {
      const query = sql`SELECT pg_sleep(15)`.execute();
      // A request that comes before the statement has no effect, so it is repeated.
      const timer = setInterval(() => query.cancel(), 200);
      got.push(await rows(query));
      clearInterval(timer);
      got.push(await rows(sql`SELECT pg_sleep(0.3)::text`).then((answer) => typeof answer));
    }
    return got;
  }),
);

check("settings and start-up", () =>
  connected(
    async (sql) => {
      const question = "SELECT current_setting('app.x'), current_setting('application_name'), current_user, current_setting('TimeZone')";
      const got = [await text(sql, question)];
      for (const query of ["SET app.x = 'other'", "SET TimeZone = 'Asia/Tokyo'", `SET ROLE ${reader}`, "RESET ALL", "RESET ROLE", "DISCARD ALL"]) {
        got.push(await text(sql, query), await text(sql, question));
      }
      return got;
    },
    { connection: { application_name: "mine", "app.x": "started" } },
  ),
);

check("pool under load", () =>
  connected(
    async (sql) => {
      const seen = {};
      const work = async (n) => {
        const [mine] = await sql.begin(async (inside) => {
          await inside`SELECT set_config('app.worker', ${String(n)}, true)`;
          return inside`SELECT current_setting('app.worker') AS setting, ${n}::int + 1 AS own`;
        });
        const key = mine.setting === String(n) && mine.own === n + 1 ? "right" : "of another";
        seen[key] = (seen[key] ?? 0) + 1;
      };
      await Promise.all(Array.from({ length: 80 }, (_, n) => work(n)));
      return seen;
    },
    { max: 3 },
  ),
);

for (const [name, way] of Object.entries(leaks.ways)) {
  check(`leak, reserved connection: ${name}`, async () => {
    const got = { changes: [] };
    const other = (...questions) =>
      connected(async (sql) => {
        const answers = [];
        for (const question of questions) answers.push(await text(sql, question));
        return answers;
      });
    await connected(async (sql) => {
      const first = await sql.reserve();
      for (const query of way) got.changes.push(await text(first, query));
      first.release();
      got["next user of the pool"] = [await text(sql, leaks.probe), await text(sql, leaks.lock)];
      got["another client"] = await other(leaks.probe, leaks.lock);
    });
    got["another client after the pool's end"] = await other(leaks.probe);
    return got;
  });
}

await runAll();
