// How the checks are run: each with a time limit, a line of JSON for each.
import { readFileSync } from "node:fs";

// How long a check may take: one that hangs is an outcome, not the end of the run.
const LIMIT_MS = 20_000;
const checks = new Map();

export const leaks = JSON.parse(readFileSync(process.env.COMPATIBILITY_LEAKS, "utf8"));
export const reader = process.env.COMPATIBILITY_READER;
export const address = {
  host: process.env.PGHOST,
  port: Number(process.env.PGPORT),
  user: process.env.PGUSER,
  password: process.env.PGPASSWORD,
  database: process.env.PGDATABASE,
};

export function check(name, run) {
  checks.set(name, run);
}

/** An error: of PostgreSQL its SQLSTATE and message, of a driver its kind and message without numbers. */
export function told(error) {
  // postgres.js names its prepared statements by chance.
  const message = String(error.message).replace(/prepared statement ".*"/, 'prepared statement "name"').replace(/[0-9]+/g, "N");
  return `${error.code ?? error.name} ${message}`;
}

/** What a promise becomes: its value, or what its error says. */
export async function outcome(promise) {
  try {
    return await promise;
  } catch (error) {
    return told(error);
  }
}

export async function runAll() {
  // An error that no promise of a check catches must not end the run.
  process.on("uncaughtException", (error) => console.error(error));
  process.on("unhandledRejection", (error) => console.error(error));
  for (const [name, run] of checks) {
    let timer;
    const late = new Promise((resolve) => {
      timer = setTimeout(() => resolve({ failed: "no answer in time" }), LIMIT_MS);
    });
    const ended = run().then(
      (value) => ({ value }),
      (error) => ({ failed: told(error) }),
    );
    const result = await Promise.race([ended, late]);
    clearTimeout(timer);
    const line = JSON.stringify({ check: name, ...result }, (_key, value) =>
      typeof value === "bigint" ? String(value) : value === undefined ? null : value,
    );
    await new Promise((resolve) => process.stdout.write(`${line}\n`, resolve));
  }
  process.exit(0);
}
