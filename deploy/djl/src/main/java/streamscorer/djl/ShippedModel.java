package streamscorer.djl;

import java.io.IOException;
import java.io.Serializable;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentMap;
import java.util.function.Function;
import org.apache.spark.broadcast.Broadcast;

/**
 * A model on its way from the driver to Spark's executors.
 *
 * <p>Its files are broadcast: Spark ships no local directory to a cluster, and a broadcast goes from
 * executor to executor. Each executor writes them to its disk, loads them once, and deletes them.
 *
 * @param version of the model
 * @param engine that scores it
 * @param files by name: the artefact's, and the engine's own
 * @param trendSha256 of the file with the shop's trend; empty where there is none
 * @param trend the shop's trend that the snapshot has; null where there is none
 */
record ShippedModel(
        String version,
        EngineName engine,
        Broadcast<Map<String, byte[]>> files,
        String trendSha256,
        Broadcast<TrendTable> trend)
        implements Serializable {
    private static final ConcurrentMap<String, PropensityModel> LOADED = new ConcurrentHashMap<>();

    /**
     * Checks a model on the driver.
     *
     * @param shown the name of the model's directory in error messages
     * @throws BadInput where it can't be used
     */
    static Artefact check(Map<String, byte[]> files, String shown, EngineName engine) {
        return unpacked(files, shown, copy -> {
            Artefact artefact = Artefact.load(copy);
            engine.check(artefact);
            return artefact;
        });
    }

    /** The same with a trend. */
    ShippedModel with(String sha256, Broadcast<TrendTable> table) {
        return new ShippedModel(version, engine, files, sha256, table);
    }

    /** This executor's one copy with this trend, loaded when first asked for. */
    PropensityModel loaded() {
        return LOADED.computeIfAbsent(version + " " + engine + " " + trendSha256, key -> load());
    }

    private PropensityModel load() {
        PropensityModel model = unpacked(
                files.value(), "model " + version, copy -> PropensityModel.load(Artefact.load(copy), engine));
        if (trend != null) {
            model.useTrend(trend.value());
        }
        return model;
    }

    /** The result of {@code use} on a temporary directory with the model's files. */
    private static <T> T unpacked(Map<String, byte[]> files, String shown, Function<Path, T> use) {
        try {
            Path copy = Files.createTempDirectory("stream-scorer-model-");
            try {
                for (Map.Entry<String, byte[]> file : files.entrySet()) {
                    Files.write(copy.resolve(file.getKey()), file.getValue());
                }
                return use.apply(copy);
            } catch (BadInput error) {
                throw new BadInput(error.getMessage().replace(copy.toString(), shown));
            } finally {
                for (String name : files.keySet()) {
                    Files.deleteIfExists(copy.resolve(name));
                }
                Files.delete(copy);
            }
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
