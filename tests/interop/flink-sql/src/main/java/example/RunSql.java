package example;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.ResultKind;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;
import org.apache.flink.types.Row;
import org.apache.flink.types.RowKind;
import org.apache.flink.util.CloseableIterator;

/** Runs the statements of a file on an embedded cluster, and prints what queries give as JSON lines. */
public final class RunSql {
    private static final Pattern VARIABLE = Pattern.compile("\\$\\{(\\w+)}");
    private static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] args) throws Exception {
        String file = Files.readString(Path.of(args[0]));
        String script = VARIABLE.matcher(file).replaceAll(found -> Matcher.quoteReplacement(variable(found.group(1))));
        TableEnvironment tables = TableEnvironment.create(EnvironmentSettings.inStreamingMode());
        for (String statement : script.split(";\\s*\n")) {
            if (!statement.isBlank()) {
                print(tables.executeSql(statement));
            }
        }
    }

    private static String variable(String name) {
        String value = System.getenv(name);
        if (value == null) {
            throw new IllegalArgumentException(name + " is not set");
        }
        return value;
    }

    private static void print(TableResult result) throws Exception {
        if (result.getResultKind() == ResultKind.SUCCESS) {
            return; // A definition.
        }
        List<String> columns = result.getResolvedSchema().getColumnNames();
        try (CloseableIterator<Row> rows = result.collect()) {
            while (rows.hasNext()) {
                Row row = rows.next();
                if (row.getKind() != RowKind.INSERT) {
                    throw new IllegalStateException("results are taken as final, and this one is taken back: " + row);
                }
                Map<String, Object> line = new LinkedHashMap<>();
                for (int i = 0; i < columns.size(); i++) {
                    line.put(columns.get(i), row.getField(i));
                }
                System.out.println(JSON.writeValueAsString(line));
            }
        }
    }
}
