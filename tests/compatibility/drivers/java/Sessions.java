import java.io.StringReader;
import java.io.StringWriter;
import java.sql.CallableStatement;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyManager;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;

/** What a session keeps, and the driver's own interfaces. */
final class Sessions {
    static Object transactions(Connection connection, int level, boolean readOnly) throws SQLException {
        List<Object> got = new ArrayList<>();
        for (boolean autoCommit : new boolean[] {true, false, true}) {
            connection.setAutoCommit(autoCommit);
            connection.setTransactionIsolation(level);
            connection.setReadOnly(readOnly);
            for (int round = 0; round < 2; round++) {
                got.add(Checks.ask(connection, "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')"));
                got.add(Checks.ask(connection, "INSERT INTO items (name) VALUES (?)", "level"));
                if (!autoCommit) connection.rollback();
            }
            got.add(connection.getTransactionIsolation() + " " + connection.isReadOnly());
            if (!autoCommit) connection.rollback();
            connection.setReadOnly(false);
            connection.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
            if (!autoCommit) connection.commit();
        }
        return got;
    }

    static Object savepoints(Connection connection) throws SQLException {
        List<Object> got = new ArrayList<>();
        connection.setAutoCommit(false);
        String question = "SELECT current_setting('app.depth', true)";
        Checks.text(connection, "SET app.depth = '1'");
        Savepoint outer = connection.setSavepoint("outer");
        Checks.text(connection, "SET app.depth = '2'");
        Savepoint inner = connection.setSavepoint();
        Checks.text(connection, "SET app.depth = '3'");
        got.add(Checks.ask(connection, "SELECT 1 / 0"));
        connection.rollback(inner);
        got.add(Checks.ask(connection, question));
        connection.releaseSavepoint(inner);
        connection.rollback(outer);
        got.add(Checks.ask(connection, question));
        connection.commit();
        got.add(Checks.ask(connection, question));
        connection.rollback();
        return got;
    }

    static Object settings(Connection connection) throws SQLException {
        List<Object> got = new ArrayList<>();
        String question = "SELECT current_setting('app.x', true), current_setting('DateStyle'), current_user, current_schema(), "
                + "current_setting('application_name')";
        got.add(Checks.ask(connection, question));
        for (String sql : new String[] {
            "SET app.x = 'other'", "SET SESSION AUTHORIZATION DEFAULT", "SET ROLE " + System.getenv("COMPATIBILITY_READER"), "RESET ALL", "RESET ROLE"
        }) {
            got.add(Checks.text(connection, sql));
            got.add(Checks.ask(connection, question));
        }
        connection.setSchema("pg_catalog");
        got.add(connection.getSchema());
        connection.setClientInfo("ApplicationName", "changed");
        got.add(Checks.ask(connection, question));
        got.add(connection.isValid(5));
        return got;
    }

    static Object cursors(Connection connection) throws SQLException {
        List<Object> got = new ArrayList<>();
        connection.setAutoCommit(false);
        for (int round = 0; round < 7; round++) {
            try (PreparedStatement statement = connection.prepareStatement("SELECT g FROM generate_series(1, ?) g")) {
                statement.setFetchSize(10 + round);
                statement.setInt(1, 1000);
                long sum = 0;
                try (ResultSet result = statement.executeQuery()) {
                    while (result.next() && (round % 2 == 0 || result.getRow() < 100)) {
                        sum += result.getInt(1);
                        if (result.getRow() == 50) got.add(Checks.ask(connection, "SELECT 'between'"));
                    }
                }
                got.add(sum);
            }
            if (round % 3 == 2) connection.commit();
        }
        connection.rollback();
        return got;
    }

    static Object copy(Connection connection) throws Exception {
        List<Object> got = new ArrayList<>();
        CopyManager copy = connection.unwrap(PGConnection.class).getCopyAPI();
        Checks.text(connection, "CREATE TABLE copied (n int PRIMARY KEY, name text)");
        StringBuilder text = new StringBuilder();
        for (int i = 0; i < 5000; i++) text.append(i).append("\tname ").append(i).append('\n');
        for (String rows : new String[] {text.toString(), "1\tagain\n", "x\n", "9999\tlast\n"}) {
            try {
                got.add(copy.copyIn("COPY copied FROM STDIN", new StringReader(rows)));
            } catch (SQLException error) {
                got.add(Checks.told(error));
            }
            got.add(Checks.ask(connection, "SELECT count(*) FROM copied"));
        }
        var broken = copy.copyIn("COPY copied FROM STDIN");
        broken.writeToCopy("20000\tx\n".getBytes(), 0, 8);
        broken.cancelCopy();
        StringWriter out = new StringWriter();
        got.add(copy.copyOut("COPY (SELECT * FROM copied ORDER BY n) TO STDOUT", out));
        got.add(out.toString().length());
        return got;
    }

    static Object generatedKeys(Connection connection) throws SQLException {
        List<Object> got = new ArrayList<>();
        Checks.text(connection, "CREATE TABLE keyed (id int GENERATED ALWAYS AS IDENTITY, name text)");
        for (int round = 0; round < 3; round++) {
            try (PreparedStatement statement = connection.prepareStatement("INSERT INTO keyed (name) VALUES (?)", Statement.RETURN_GENERATED_KEYS)) {
                statement.setString(1, "one");
                statement.executeUpdate();
                got.add(Checks.rows(statement.getGeneratedKeys()));
                for (int i = 0; i < 3; i++) {
                    statement.setString(1, "batch");
                    statement.addBatch();
                }
                statement.executeBatch();
                got.add(Checks.rows(statement.getGeneratedKeys()));
            }
        }
        return got;
    }

    static Object queryTimeout(Connection connection) throws SQLException {
        List<Object> got = new ArrayList<>();
        for (int round = 0; round < 2; round++) {
            try (Statement statement = connection.createStatement()) {
                statement.setQueryTimeout(1);
                statement.execute("SELECT pg_sleep(15)");
                got.add("slept");
            } catch (SQLException error) {
                got.add(Checks.told(error));
            }
            got.add(Checks.ask(connection, "SELECT 'after'"));
        }
        return got;
    }

    static Object cancel(Connection connection) throws Exception {
        List<Object> got = new ArrayList<>();
        for (int round = 0; round < 2; round++) {
            CountDownLatch ended = new CountDownLatch(1);
            try (Statement statement = connection.createStatement()) {
                // A request that comes before the statement has no effect, so it is repeated.
                Thread canceller = new Thread(() -> {
                    try {
                        while (!ended.await(100, TimeUnit.MILLISECONDS)) statement.cancel();
                    } catch (SQLException | InterruptedException error) {
                        Thread.currentThread().interrupt();
                    }
                });
                canceller.start();
                try {
                    statement.execute("SELECT pg_sleep(15)");
                    got.add("slept");
                } catch (SQLException error) {
                    got.add(Checks.told(error));
                }
                ended.countDown();
                canceller.join();
            }
            got.add(Checks.ask(connection, "SELECT 'after'"));
        }
        return got;
    }

    static Object metadata(Connection connection) throws SQLException {
        List<Object> got = new ArrayList<>();
        DatabaseMetaData data = connection.getMetaData();
        got.add(data.getDatabaseProductVersion());
        try (ResultSet tables = data.getTables(null, "public", "items", new String[] {"TABLE"})) {
            while (tables.next()) got.add(tables.getString("TABLE_NAME"));
        }
        try (ResultSet columns = data.getColumns(null, "public", "items", null)) {
            while (columns.next()) got.add(columns.getString("COLUMN_NAME") + " " + columns.getString("TYPE_NAME"));
        }
        try (ResultSet keys = data.getPrimaryKeys(null, "public", "items")) {
            while (keys.next()) got.add(keys.getString("COLUMN_NAME"));
        }
        try (ResultSet functions = data.getFunctions(null, "public", "%")) {
            while (functions.next()) got.add(functions.getString("FUNCTION_NAME"));
        }
        try (PreparedStatement statement = connection.prepareStatement("SELECT id, name, ?::int[] AS numbers FROM items")) {
            for (int i = 1; i <= 3; i++) got.add(statement.getMetaData().getColumnName(i) + " " + statement.getMetaData().getColumnTypeName(i));
            got.add(statement.getParameterMetaData().getParameterTypeName(1));
        }
        return got;
    }

    static Object notifications(Connection connection) throws SQLException {
        List<Object> got = new ArrayList<>();
        Checks.text(connection, "LISTEN news");
        for (int round = 0; round < 3; round++) {
            Checks.ask(connection, "SELECT pg_notify('news', ?)", "payload " + round);
            PGNotification[] heard = connection.unwrap(PGConnection.class).getNotifications(5000);
            if (heard != null) for (PGNotification each : heard) got.add(each.getName() + " " + each.getParameter());
        }
        got.add(Checks.text(connection, "UNLISTEN *"));
        return got;
    }

    /** Large objects go by FunctionCall messages. */
    static Object largeObject(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        LargeObjectManager manager = connection.unwrap(PGConnection.class).getLargeObjectAPI();
        long oid = manager.createLO(LargeObjectManager.READWRITE);
        LargeObject object = manager.open(oid, LargeObjectManager.READWRITE);
        object.write("a large object".getBytes());
        object.seek(2);
        String read = new String(object.read(5));
        object.close();
        manager.delete(oid);
        connection.commit();
        return read;
    }

    static Object calls(Connection connection) throws SQLException {
        List<Object> got = new ArrayList<>();
        Checks.text(connection, "CREATE PROCEDURE add_item(n text, INOUT made int) LANGUAGE plpgsql AS "
                + "$$ BEGIN INSERT INTO items (name) VALUES (n); COMMIT; made := made + 1; END $$");
        for (int round = 0; round < 7; round++) {
            try (CallableStatement call = connection.prepareCall("CALL add_item(?, ?)")) {
                call.setString(1, "called");
                call.setInt(2, round);
                call.registerOutParameter(2, Types.INTEGER);
                call.execute();
                got.add(call.getInt(2));
            }
            try (CallableStatement call = connection.prepareCall("{? = call upper(?)}")) {
                call.registerOutParameter(1, Types.VARCHAR);
                call.setString(2, "function");
                call.execute();
                got.add(call.getString(1));
            }
        }
        return got;
    }
}
