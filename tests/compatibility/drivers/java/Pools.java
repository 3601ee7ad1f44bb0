import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.sql.Connection;
import java.sql.DriverManager;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;

/** HikariCP: its pool under load, and what its next user finds of the one before. */
final class Pools {
    private static HikariDataSource pool(int size, boolean autoCommit, String isolation) {
        HikariConfig config = new HikariConfig();
        config.setJdbcUrl(Checks.url());
        config.setDataSourceProperties(Checks.properties("prepareThreshold", "1"));
        config.setUsername(System.getenv("PGUSER"));
        config.setPassword(System.getenv("PGPASSWORD"));
        config.setMaximumPoolSize(size);
        config.setMinimumIdle(1);
        config.setConnectionTimeout(15_000);
        config.setAutoCommit(autoCommit);
        if (isolation != null) config.setTransactionIsolation(isolation);
        return new HikariDataSource(config);
    }

    static void add(Checks checks) throws Exception {
        for (String isolation : new String[] {
            "TRANSACTION_READ_UNCOMMITTED", "TRANSACTION_READ_COMMITTED", "TRANSACTION_REPEATABLE_READ", "TRANSACTION_SERIALIZABLE"
        }) {
            checks.add("pool, what it resets: " + isolation, () -> resets(isolation));
        }
        checks.add("pool under load", Pools::underLoad);
        Checks.Leaks leaks = Checks.leaks();
        for (boolean autoCommit : new boolean[] {true, false}) {
            leaks.ways().forEach((name, way) ->
                    checks.add("leak, HikariCP, autocommit " + autoCommit + ": " + name, () -> leak(leaks, way, autoCommit)));
        }
    }

    /** What the pool sets back when a connection is returned: read-only, isolation, autocommit, schema. */
    private static Object resets(String isolation) throws Exception {
        List<Object> got = new ArrayList<>();
        String question = "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only'), current_schema()";
        try (HikariDataSource pool = pool(1, true, isolation)) {
            for (int round = 0; round < 3; round++) {
                try (Connection connection = pool.getConnection()) {
                    got.add(Checks.ask(connection, question));
                    connection.setReadOnly(true);
                    connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
                    connection.setSchema("pg_catalog");
                    connection.setAutoCommit(false);
                    got.add(Checks.ask(connection, question));
                    got.add(Checks.ask(connection, "INSERT INTO public.items (name) VALUES ('resets')"));
                }
            }
        }
        return got;
    }

    private static Object underLoad() throws Exception {
        Map<String, Integer> seen = new ConcurrentHashMap<>();
        try (HikariDataSource pool = pool(3, false, null)) {
            List<Thread> threads = new ArrayList<>();
            for (int worker = 0; worker < 6; worker++) {
                int number = worker;
                Thread thread = new Thread(() -> {
                    for (int turn = 0; turn < 15; turn++) {
                        String outcome;
                        try (Connection connection = pool.getConnection()) {
                            String want = String.valueOf(number * 1000 + turn);
                            Checks.ask(connection, "SELECT set_config('app.worker', ?, true)", want);
                            Object setting = Checks.ask(connection, "SELECT current_setting('app.worker')");
                            Object own = Checks.ask(connection, "SELECT ?::text || " + turn % 4, want);
                            connection.commit();
                            boolean right = setting.equals(List.of(List.of(List.of(want)))) && own.equals(List.of(List.of(List.of(want + turn % 4))));
                            outcome = right ? "right" : "of another";
                        } catch (Exception error) {
                            outcome = Checks.told(error);
                        }
                        seen.merge(outcome, 1, Integer::sum);
                    }
                });
                threads.add(thread);
                thread.start();
            }
            for (Thread thread : threads) thread.join();
        }
        return new TreeMap<>(seen);
    }

    private static Object leak(Checks.Leaks leaks, List<String> way, boolean autoCommit) throws Exception {
        Map<String, Object> got = new LinkedHashMap<>();
        try (HikariDataSource pool = pool(1, autoCommit, null)) {
            List<Object> changes = new ArrayList<>();
            try (Connection connection = pool.getConnection()) {
                for (String sql : way) changes.add(Checks.text(connection, sql));
            }
            got.put("changes", changes);
            try (Connection connection = pool.getConnection()) {
                got.put("next user of the pool", List.of(Checks.ask(connection, leaks.probe()), Checks.ask(connection, leaks.lock())));
            }
            try (Connection other = DriverManager.getConnection(Checks.url(), Checks.properties())) {
                got.put("another client", List.of(Checks.ask(other, leaks.probe()), Checks.ask(other, leaks.lock())));
            }
        }
        try (Connection other = DriverManager.getConnection(Checks.url(), Checks.properties())) {
            got.put("another client after the pool's end", Checks.ask(other, leaks.probe()));
        }
        return got;
    }
}
