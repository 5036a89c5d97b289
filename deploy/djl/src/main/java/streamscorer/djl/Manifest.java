package streamscorer.djl;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.Map;
import java.util.function.Predicate;
import java.util.regex.Pattern;
import org.apache.parquet.column.values.bloomfilter.XxHash;

/**
 * The manifest of a model (manifest.json) or a snapshot (_manifest.json), with a verified checksum.
 *
 * <p>The checksum is the SHA-256 of the manifest without it, written compactly with sorted keys, and
 * a fingerprint the xxHash64 of {@code features} written so.
 */
final class Manifest {
    /** The newest format of each kind of manifest that this program reads. */
    static final Map<String, Integer> FORMATS = Map.of("model", 2, "snapshot", 1);

    /** Of a manifest; what is longer is not read. */
    static final int MAX_BYTES = 256 << 20;

    private static final Pattern LARGE = Pattern.compile("[1-9]\\d*");

    static final String APART = "features, categories and fingerprint do not belong together";

    private final String kind;
    private final String file;
    private final JsonObject members;

    private Manifest(String kind, String file, JsonObject members) {
        this.kind = kind;
        this.file = file;
        this.members = members;
    }

    /**
     * Reads and checks a manifest.
     *
     * @param kind "model" or "snapshot", for messages
     * @param file where it stands, for messages
     * @throws BadInput where it is not such a manifest, was altered, or has a newer format
     */
    static Manifest parse(String kind, String file, byte[] content) {
        JsonElement value;
        try {
            value = Json.parse(content);
        } catch (Json.BadJson error) {
            throw new BadInput(kind, file, error.getMessage() + "; " + again(kind));
        }
        JsonElement format = value.isJsonObject() ? value.getAsJsonObject().get("format") : null;
        if (format == null || !format.isJsonPrimitive() || !format.getAsJsonPrimitive().isNumber()
                || !LARGE.matcher(format.getAsString()).matches()) {
            throw new BadInput(kind, file, "not a " + kind + "'s manifest; " + again(kind));
        }
        BigInteger newest = BigInteger.valueOf(FORMATS.get(kind));
        if (new BigInteger(format.getAsString()).compareTo(newest) > 0) {
            String remedy = "format %s; this program reads up to %d: upgrade stream-scorer";
            throw new BadInput(kind, file, remedy.formatted(format.getAsString(), newest));
        }
        return new Manifest(kind, file, value.getAsJsonObject());
    }

    /**
     * Checks the checksum.
     *
     * @throws BadInput where it is not right
     */
    void requireUnaltered() {
        JsonElement said = members.remove("checksum");
        String found = sha256(Json.compact(members).getBytes(StandardCharsets.UTF_8));
        if (!Json.isText(said) || !said.getAsString().equals(found)) {
            throw new BadInput(kind, file, "was altered after it was written; " + again(kind));
        }
    }

    /** A member; {@link BadInput} where it is missing. */
    JsonElement get(String name) {
        JsonElement found = members.get(name);
        if (found == null) {
            throw wrong(name);
        }
        return found;
    }

    /** Whether it has a member of this kind. */
    boolean has(String name, Predicate<JsonElement> isKind) {
        return members.has(name) && isKind.test(members.get(name));
    }

    /** The error of a member that is missing or of another type than the Python package writes. */
    BadInput wrong(String name) {
        return new BadInput(kind, file,
                "has no " + name + ", or one of another type than stream-scorer writes; " + again(kind));
    }

    /** An error of the whole manifest. */
    BadInput unfit(String why) {
        return new BadInput(kind, file, why + "; " + again(kind));
    }

    /** The error of a manifest whose parts do not belong together. */
    BadInput contradiction(String why) {
        return new BadInput(kind, file, "contradicts itself: " + why + "; " + again(kind));
    }

    /**
     * The manifest's fingerprint, 16 hexadecimal digits, which must be that of its features.
     *
     * @throws BadInput where it is not
     */
    String fingerprint() {
        String said = get("fingerprint").getAsString();
        byte[] features = Json.compact(get("features")).getBytes(StandardCharsets.UTF_8);
        if (!said.equals("%016x".formatted(new XxHash().hashBytes(features)))) {
            throw unfit(APART);
        }
        return said;
    }

    /** The remedy for a broken model or snapshot. */
    static String again(String kind) {
        return kind.equals("model")
                ? "copy or train the model again"
                : "copy or write the snapshot again";
    }

    /** SHA-256 as 64 hexadecimal digits. */
    static String sha256(byte[] content) {
        return HexFormat.of().formatHex(sha256().digest(content));
    }

    static MessageDigest sha256() {
        try {
            return MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException error) {
            throw new AssertionError(error); // every Java has it
        }
    }
}
