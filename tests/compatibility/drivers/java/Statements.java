import java.math.BigDecimal;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.Timestamp;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** Statements, in whatever way the connection sends them. */
final class Statements {
    static Object values(Connection connection) throws Exception {
        List<Object> got = new ArrayList<>();
        for (int round = 0; round < 7; round++) {
            got.add(Checks.ask(connection, "SELECT ?::int + 1, ?::text || '!', ?::numeric, ?::bool", round, "né", new BigDecimal("1.50"), true));
            got.add(Checks.ask(connection, "SELECT ?::timestamp", Timestamp.valueOf("2024-02-01 12:30:00")));
            got.add(Checks.ask(connection, "SELECT md5(?)", (Object) new byte[] {0, 1, (byte) 255}));
            got.add(Checks.ask(connection, "SELECT ?::text IS NULL", (Object) null));
            got.add(Checks.ask(connection, "SELECT array_length(?::int[], 1)", connection.createArrayOf("int4", new Integer[] {1, 2, null})));
            got.add(Checks.ask(connection, "INSERT INTO items (name, amount) VALUES (?, ?) RETURNING amount", "jdbc", round));
        }
        got.add(Checks.ask(connection, "SELECT length(?::text)", "x".repeat(5_000_000)));
        return got;
    }

    static Object errors(Connection connection) {
        List<Object> got = new ArrayList<>();
        for (int round = 0; round < 3; round++) {
            got.add(Checks.ask(connection, "SELECT 1 / ?::int", 0));
            got.add(Checks.ask(connection, "SELEC 1"));
            got.add(Checks.ask(connection, "SELECT * FROM nosuch"));
            got.add(Checks.ask(connection, "SELECT ?::int", "no number"));
            got.add(Checks.ask(connection, "SELECT 1 / ?::int", 1));
        }
        return got;
    }

    static Object several(Connection connection) {
        List<Object> got = new ArrayList<>();
        for (int round = 0; round < 3; round++) {
            got.add(Checks.text(connection, "SELECT 1; SELECT 2, 3; SELECT 'x'"));
            got.add(Checks.text(connection, "SELECT 1; SELECT 1 / 0; SELECT 2"));
            got.add(Checks.ask(connection, "SELECT ?::int; SELECT ?::text", 1, "two"));
            got.add(Checks.text(connection, "BEGIN; INSERT INTO items (name) VALUES ('several'); COMMIT; SELECT 1 / 0"));
            got.add(Checks.text(connection, "ROLLBACK"));
            got.add(Checks.text(connection, ""));
        }
        return got;
    }

    static Object repeated(Connection connection) throws Exception {
        List<Object> got = new ArrayList<>();
        try (PreparedStatement one = connection.prepareStatement("SELECT ?::int + 10");
                PreparedStatement two = connection.prepareStatement("SELECT ?::int + 10")) {
            for (int round = 0; round < 12; round++) {
                one.setInt(1, round);
                two.setInt(1, -round);
                try (ResultSet first = one.executeQuery()) {
                    got.add(Checks.rows(first));
                }
                try (ResultSet second = two.executeQuery()) {
                    got.add(Checks.rows(second));
                }
                // Another type for the same parameter is another statement.
                if (round == 8) one.setLong(1, 1L);
                if (round == 10) connection.createStatement().execute("SET search_path = public");
            }
        }
        return got;
    }

    static Object deallocateAll(Connection connection) {
        List<Object> got = new ArrayList<>();
        for (String sql : new String[] {"DEALLOCATE ALL", "DISCARD ALL"}) {
            for (int round = 0; round < 7; round++) got.add(Checks.ask(connection, "SELECT ?::int + 7", round));
            got.add(Checks.text(connection, sql));
            for (int round = 0; round < 3; round++) got.add(Checks.ask(connection, "SELECT ?::int + 7", round));
        }
        return got;
    }

    static Object errorsInTransaction(Connection connection) throws Exception {
        List<Object> got = new ArrayList<>();
        connection.setAutoCommit(false);
        for (int round = 0; round < 7; round++) {
            got.add(Checks.ask(connection, "INSERT INTO items (name, amount) VALUES (?, ?)", "autosave", round));
            got.add(Checks.ask(connection, "SELECT 1 / ?::int", round % 2));
            got.add(Checks.ask(connection, "SELECT ?::int", round));
            try {
                connection.commit();
                got.add("committed");
            } catch (java.sql.SQLException error) {
                got.add(Checks.told(error));
                connection.rollback();
            }
        }
        got.add(Checks.ask(connection, "SELECT count(*) FROM items WHERE name = 'autosave'").getClass().getSimpleName());
        connection.rollback();
        return got;
    }

    static Object batches(Connection connection) throws Exception {
        List<Object> got = new ArrayList<>();
        connection.createStatement().execute("CREATE TEMPORARY TABLE batched (n int, name text)");
        for (int round = 0; round < 4; round++) {
            try (PreparedStatement batch = connection.prepareStatement("INSERT INTO batched (n, name) VALUES (?, ?)")) {
                for (int i = 0; i < 500; i++) {
                    batch.setInt(1, i);
                    batch.setString(2, "name " + i);
                    batch.addBatch();
                }
                got.add(batch.executeBatch().length);
            }
            try (PreparedStatement batch = connection.prepareStatement("UPDATE batched SET n = n + 1 WHERE n = ?")) {
                for (int i = 0; i < 20; i++) {
                    batch.setInt(1, i * 10);
                    batch.addBatch();
                }
                got.add(Arrays.toString(batch.executeBatch()));
            }
            got.add(Checks.ask(connection, "SELECT count(*), sum(n) FROM batched"));
        }
        try (var mixed = connection.createStatement()) {
            mixed.addBatch("INSERT INTO batched VALUES (-1, 'mixed')");
            mixed.addBatch("UPDATE batched SET name = 'other' WHERE n = -1");
            mixed.addBatch("DELETE FROM batched WHERE n = -1");
            got.add(Arrays.toString(mixed.executeBatch()));
        }
        return got;
    }

    static Object failingBatch(Connection connection) throws Exception {
        List<Object> got = new ArrayList<>();
        for (boolean autoCommit : new boolean[] {true, false}) {
            connection.setAutoCommit(true);
            connection.createStatement().execute("DROP TABLE IF EXISTS failing; CREATE TABLE failing (n int PRIMARY KEY)");
            connection.setAutoCommit(autoCommit);
            for (int round = 0; round < 3; round++) {
                try (PreparedStatement batch = connection.prepareStatement("INSERT INTO failing VALUES (?)")) {
                    for (int i : new int[] {round * 10, round * 10 + 1, round * 10, round * 10 + 2}) {
                        batch.setInt(1, i);
                        batch.addBatch();
                    }
                    got.add(Arrays.toString(batch.executeBatch()));
                } catch (BatchUpdateException error) {
                    got.add(Arrays.toString(error.getUpdateCounts()) + " " + error.getSQLState());
                }
                if (!autoCommit) connection.rollback();
                got.add(Checks.ask(connection, "SELECT count(*) FROM failing"));
            }
            if (!autoCommit) connection.rollback();
        }
        connection.setAutoCommit(true);
        connection.createStatement().execute("DROP TABLE failing");
        return got;
    }
}
