import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/** How the checks are run: each with a time limit, a line of JSON for each. */
final class Checks {
    /** How long a check may take: one that hangs is an outcome, not the end of the run. */
    private static final long LIMIT_S = 20;

    private static final Gson GSON = new GsonBuilder().disableHtmlEscaping().serializeNulls().create();
    private final Map<String, Check> checks = new LinkedHashMap<>();

    /** What a check does; it returns what came of it. */
    @FunctionalInterface
    interface Check {
        Object run() throws Exception;
    }

    /** What is done with a connection. */
    @FunctionalInterface
    interface WithConnection {
        Object run(Connection connection) throws Exception;
    }

    /** What leaks.json says: how a session is changed, and the questions that find it. */
    record Leaks(Map<String, List<String>> ways, String probe, String lock) {}

    static Leaks leaks() throws Exception {
        return GSON.fromJson(Files.readString(Path.of(System.getenv("COMPATIBILITY_LEAKS"))), Leaks.class);
    }

    static String url() {
        return "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE");
    }

    static Properties properties(String... pairs) {
        Properties made = new Properties();
        made.put("user", System.getenv("PGUSER"));
        made.put("password", System.getenv("PGPASSWORD"));
        made.put("sslmode", "disable");
        for (int i = 0; i < pairs.length; i += 2) made.put(pairs[i], pairs[i + 1]);
        return made;
    }

    void add(String name, Check check) {
        checks.put(name, check);
    }

    /** A check with a connection of its own. */
    void connected(String name, Properties properties, WithConnection check) {
        add(name, () -> {
            try (Connection connection = DriverManager.getConnection(url(), properties)) {
                return check.run(connection);
            }
        });
    }

    /** An error: of PostgreSQL or the driver its SQLSTATE and message, of anything else its kind. */
    static String told(Throwable error) {
        if (error instanceof SQLException of) {
            String message = String.valueOf(of.getMessage()).lines().findFirst().orElse("");
            return of.getSQLState() + " " + message.replaceAll("[0-9]+", "N");
        }
        return error.getClass().getSimpleName() + " " + error.getMessage();
    }

    /** The rows of a prepared statement as text, or what its error says. */
    static Object ask(Connection connection, String sql, Object... values) {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int i = 0; i < values.length; i++) statement.setObject(i + 1, values[i]);
            return outcome(statement, statement.execute());
        } catch (SQLException error) {
            return told(error);
        }
    }

    /** The results of a text of statements, or what its error says. */
    static Object text(Connection connection, String sql) {
        try (Statement statement = connection.createStatement()) {
            return outcome(statement, statement.execute(sql));
        } catch (SQLException error) {
            return told(error);
        }
    }

    private static Object outcome(Statement statement, boolean first) throws SQLException {
        List<Object> results = new ArrayList<>();
        for (boolean rows = first; rows || statement.getUpdateCount() != -1; rows = statement.getMoreResults()) {
            results.add(rows ? rows(statement.getResultSet()) : statement.getUpdateCount());
        }
        return results;
    }

    static List<List<String>> rows(ResultSet result) throws SQLException {
        List<List<String>> rows = new ArrayList<>();
        while (result.next()) {
            List<String> row = new ArrayList<>();
            for (int i = 1; i <= result.getMetaData().getColumnCount(); i++) row.add(result.getString(i));
            rows.add(row);
        }
        return rows;
    }

    void runAll() {
        checks.forEach((name, check) -> {
            Map<String, Object> line = new LinkedHashMap<>();
            line.put("check", name);
            FutureTask<Object> task = new FutureTask<>(check::run);
            Thread thread = new Thread(task);
            thread.setDaemon(true);
            thread.start();
            try {
                line.put("value", task.get(LIMIT_S, TimeUnit.SECONDS));
            } catch (ExecutionException error) {
                line.put("failed", told(error.getCause()));
            } catch (TimeoutException | InterruptedException error) {
                line.put("failed", "no answer in time");
            }
            System.out.println(GSON.toJson(line));
            System.out.flush();
        });
        System.exit(0);
    }
}
