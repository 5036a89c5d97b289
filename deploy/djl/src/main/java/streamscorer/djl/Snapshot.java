package streamscorer.djl;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.io.InputStream;
import java.io.Serializable;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Set;
import java.util.regex.Pattern;

/**
 * What a snapshot's manifest says.
 *
 * @param directory the directory of its shards
 * @param fingerprint of its features, 16 hexadecimal digits
 * @param columns F
 * @param rows of all shards
 * @param trend what it says of the shop's trend; null where none is declared
 */
public record Snapshot(
        String directory, String fingerprint, int columns, long rows, List<Shard> shards, Trend trend) {

    /** One Parquet file of a snapshot. */
    public record Shard(String name, long rows, long bytes, String sha256) implements Serializable {

        /**
         * Reads a file to its end and compares it with what the manifest says of it.
         *
         * @throws BadInput where it differs
         */
        public void check(String file, InputStream content) throws IOException {
            MessageDigest digest = Manifest.sha256();
            byte[] block = new byte[1 << 20];
            long read = 0;
            for (int length; read <= bytes && (length = content.read(block)) >= 0; read += length) {
                digest.update(block, 0, length);
            }
            if (read != bytes || !HexFormat.of().formatHex(digest.digest()).equals(sha256)) {
                String remedy = "its SHA-256 is not the manifest's; ";
                throw new BadInput(KIND, file, remedy + Manifest.again(KIND));
            }
        }
    }

    /**
     * The file with the shop's trend on the days of the rows.
     *
     * @param file its size and SHA-256; its rows are days
     * @param firstDay in days since 1970
     * @param width G times V
     */
    public record Trend(Shard file, int firstDay, int width) {}

    static final String KIND = "snapshot";

    /** Readers of Parquet directories skip names that begin with "_". */
    static final String TREND_FILE = "_trend.parquet";

    /** A shard's name becomes a path, so it may not lead elsewhere. */
    private static final Pattern SHARD_NAME = Pattern.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,250}\\.parquet");

    /** The manifest's file name. Readers of Parquet directories skip names that begin with "_". */
    static final String MANIFEST = "_manifest.json";

    /** The manifest's file name in older snapshots. */
    static final String OLD_MANIFEST = "manifest.json";

    /** The error for a directory that has a manifest of neither name. */
    static BadInput withoutManifest(String directory) {
        String remedy = "is no snapshot: it has neither " + MANIFEST + " nor, as of older versions, "
                + OLD_MANIFEST + "; name a folder that `replay --cutoffs` or `export` wrote";
        return new BadInput(KIND, directory, remedy);
    }

    /**
     * Reads a manifest.
     *
     * @param name of the manifest's file in the directory
     * @param content of that file
     * @throws BadInput where it is not a snapshot's, was altered, or has a newer format
     */
    public static Snapshot parse(String directory, String name, byte[] content) {
        String file = directory + "/" + name;
        Manifest manifest = Manifest.parse(KIND, file, content);
        manifest.requireUnaltered();
        try {
            List<Shard> shards = shards(manifest);
            JsonObject features = manifest.get("features").getAsJsonObject();
            String field = manifest.get("label_field").getAsString();
            JsonElement vocabulary = features.getAsJsonObject("vocabularies").get(field);
            if (vocabulary == null) {
                throw manifest.contradiction("'" + field + "'");
            }
            if (!vocabulary.equals(manifest.get("categories"))) {
                throw manifest.unfit(Manifest.APART);
            }
            FeatureColumns columns = FeatureColumns.of(features);
            int width = Math.multiplyExact(columns.contrasts(), vocabulary.getAsJsonArray().size());
            if (width > 0 && !manifest.has("trend", JsonElement::isJsonObject)) {
                throw new BadInput(KIND, directory, "has no table of the shop's trend; " + Manifest.again(KIND));
            }
            return new Snapshot(
                    directory,
                    manifest.fingerprint(),
                    columns.count(),
                    manifest.get("rows").getAsLong(),
                    shards,
                    width > 0 ? trend(manifest.get("trend").getAsJsonObject(), width) : null);
        } catch (IllegalStateException | NullPointerException | NumberFormatException
                | UnsupportedOperationException | ClassCastException | ArithmeticException error) {
            throw manifest.contradiction(error.getMessage());
        }
    }

    private static Trend trend(JsonObject entry, int width) {
        long days = entry.get("days").getAsLong();
        Shard file = new Shard(TREND_FILE, days, entry.get("bytes").getAsLong(), entry.get("sha256").getAsString());
        return new Trend(file, Math.toIntExact(entry.get("first_day").getAsLong()), width);
    }

    /** Whether it is what the Python package says of a trend's file; the name becomes a path. */
    private static boolean isTrend(JsonElement found) {
        return found.isJsonNull() || found instanceof JsonObject entry
                && Json.isText(entry.get("name")) && entry.get("name").getAsString().equals(TREND_FILE)
                && Json.isWhole(entry.get("first_day")) && Json.isWhole(entry.get("days"))
                && Json.isWhole(entry.get("bytes")) && Json.isText(entry.get("sha256"))
                && entry.get("days").getAsLong() >= 0;
    }

    /** The shards that it lists as the Python package does. */
    private static List<Shard> shards(Manifest manifest) {
        List<Shard> shards = new ArrayList<>();
        Set<String> names = new HashSet<>();
        long rows = 0;
        boolean wellFormed = manifest.has("shards", JsonElement::isJsonArray)
                && manifest.has("rows", Json::isWhole)
                && manifest.has("fingerprint", Json::isText)
                && manifest.has("features", JsonElement::isJsonObject)
                && manifest.has("categories", JsonElement::isJsonArray)
                && manifest.has("label_field", Json::isText)
                && manifest.has("labels", found -> found.isJsonObject() || found.isJsonNull())
                && manifest.has("source_offsets", JsonElement::isJsonObject)
                && (!manifest.has("trend", any -> true) || manifest.has("trend", Snapshot::isTrend));
        JsonArray listed = wellFormed ? manifest.get("shards").getAsJsonArray() : new JsonArray();
        for (JsonElement element : listed) {
            JsonObject shard = element.isJsonObject() ? element.getAsJsonObject() : new JsonObject();
            if (!Json.isText(shard.get("name")) || !Json.isText(shard.get("sha256"))
                    || !Json.isWhole(shard.get("rows")) || !Json.isWhole(shard.get("bytes"))
                    || shard.get("rows").getAsLong() < 0) {
                wellFormed = false;
                break;
            }
            rows = Math.addExact(rows, shard.get("rows").getAsLong());
            shards.add(new Shard(
                    shard.get("name").getAsString(),
                    shard.get("rows").getAsLong(),
                    shard.get("bytes").getAsLong(),
                    shard.get("sha256").getAsString()));
        }
        if (!wellFormed) {
            throw manifest.unfit("not a snapshot's manifest");
        }
        if (rows != manifest.get("rows").getAsLong()) {
            throw manifest.unfit("its rows are not those of its shards");
        }
        for (Shard shard : shards) {
            if (!names.add(shard.name())) {
                throw manifest.unfit("lists a shard twice");
            }
        }
        for (Shard shard : shards) {
            if (!SHARD_NAME.matcher(shard.name()).matches()) {
                throw manifest.unfit(
                        "lists a shard '" + BadInput.shown(shard.name(), 200) + "', which is not a shard's file name");
            }
        }
        return List.copyOf(shards);
    }
}
