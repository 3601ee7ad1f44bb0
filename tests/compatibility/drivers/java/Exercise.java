import java.sql.Connection;
import java.util.Properties;

/** The JDBC driver and HikariCP: all kinds of statements, in each way of sending them. */
final class Exercise {
    private static final int[] LEVELS = {
        Connection.TRANSACTION_READ_UNCOMMITTED,
        Connection.TRANSACTION_READ_COMMITTED,
        Connection.TRANSACTION_REPEATABLE_READ,
        Connection.TRANSACTION_SERIALIZABLE
    };

    public static void main(String[] arguments) throws Exception {
        Checks checks = new Checks();
        for (String mode : new String[] {"simple", "extended", "extendedForPrepared", "extendedCacheEverything"}) {
            statements(checks, mode, Checks.properties("preferQueryMode", mode));
        }
        for (String threshold : new String[] {"-1", "0", "1", "5"}) {
            statements(checks, "threshold " + threshold, Checks.properties("prepareThreshold", threshold));
        }
        statements(checks, "threshold 1, text", Checks.properties("prepareThreshold", "1", "binaryTransfer", "false"));
        for (String save : new String[] {"never", "always", "conservative"}) {
            for (String threshold : new String[] {"1", "5"}) {
                checks.connected(
                        "errors in a transaction: autosave " + save + ", threshold " + threshold,
                        Checks.properties("autosave", save, "prepareThreshold", threshold),
                        Statements::errorsInTransaction);
            }
        }
        for (String rewrite : new String[] {"true", "false"}) {
            for (String threshold : new String[] {"1", "5"}) {
                Properties batch = Checks.properties("reWriteBatchedInserts", rewrite, "prepareThreshold", threshold);
                checks.connected("batches: rewritten " + rewrite + ", threshold " + threshold, batch, Statements::batches);
                checks.connected("batch that fails: rewritten " + rewrite + ", threshold " + threshold, batch, Statements::failingBatch);
            }
        }
        for (int level : LEVELS) {
            for (boolean readOnly : new boolean[] {false, true}) {
                for (String mode : new String[] {"ignore", "transaction", "always"}) {
                    checks.connected(
                            "transactions: level " + level + ", read only " + readOnly + ", mode " + mode,
                            Checks.properties("readOnlyMode", mode),
                            connection -> Sessions.transactions(connection, level, readOnly));
                }
            }
        }
        checks.connected("savepoints", Checks.properties(), Sessions::savepoints);
        checks.connected("settings and start-up", Checks.properties("ApplicationName", "mine", "options", "-c app.x=started"), Sessions::settings);
        checks.connected("cursors by fetch size", Checks.properties("defaultRowFetchSize", "50"), Sessions::cursors);
        checks.connected("copy", Checks.properties(), Sessions::copy);
        checks.connected("generated keys", Checks.properties("prepareThreshold", "1"), Sessions::generatedKeys);
        checks.connected("query timeout", Checks.properties(), Sessions::queryTimeout);
        checks.connected("cancel", Checks.properties(), Sessions::cancel);
        checks.connected("metadata", Checks.properties(), Sessions::metadata);
        checks.connected("notifications", Checks.properties(), Sessions::notifications);
        checks.connected("large object", Checks.properties(), Sessions::largeObject);
        checks.connected("functions and procedures", Checks.properties("escapeSyntaxCallMode", "callIfNoReturn"), Sessions::calls);
        Pools.add(checks);
        checks.runAll();
    }

    private static void statements(Checks checks, String name, Properties properties) {
        checks.connected("values: " + name, properties, Statements::values);
        checks.connected("errors and use after them: " + name, properties, Statements::errors);
        checks.connected("several statements: " + name, properties, Statements::several);
        checks.connected("one prepared statement many times: " + name, properties, Statements::repeated);
        checks.connected("after DEALLOCATE ALL: " + name, properties, Statements::deallocateAll);
    }
}
