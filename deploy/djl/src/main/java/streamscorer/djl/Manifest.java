package streamscorer.djl;

import com.google.gson.JsonElement;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.parquet.column.values.bloomfilter.XxHash;

/**
 * The manifest of a model (manifest.json) or a snapshot (_manifest.json), with a verified checksum.
 *
 * <p>The checksum is the SHA-256 of the manifest without it, written compactly with sorted keys, and
 * a fingerprint the xxHash64 of {@code features} written so. The Python package writes keys sorted
 * and all of it in ASCII. So both texts are the file's own without the white space between tokens, and
 * no number is parsed and printed again, which might change its digits.
 */
final class Manifest {
    /** The newest format of either manifest that this program reads. */
    static final int FORMAT = 1;

    private final String kind;
    private final String file;
    private final Map<String, String> members;

    private Manifest(String kind, String file, Map<String, String> members) {
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
        Map<String, String> members;
        try {
            members = members(compact(new String(content, StandardCharsets.UTF_8)));
        } catch (JsonParseException | StringIndexOutOfBoundsException error) {
            throw new BadInput(kind, file, "not JSON; " + again(kind));
        }
        Manifest manifest = new Manifest(kind, file, members);
        String format = members.getOrDefault("format", "");
        if (!format.matches("[1-9]\\d{0,8}")) {
            throw new BadInput(kind, file, "not a " + kind + "'s manifest; " + again(kind));
        }
        if (Integer.parseInt(format) > FORMAT) {
            String remedy = "format %s; this program reads up to %d: upgrade stream-scorer";
            throw new BadInput(kind, file, remedy.formatted(format, FORMAT));
        }
        String said = members.remove("checksum");
        StringBuilder rest = new StringBuilder();
        members.forEach((name, text) ->
                rest.append(rest.isEmpty() ? "{" : ",").append('"').append(name).append("\":").append(text));
        String found = '"' + sha256(rest.append('}').toString().getBytes(StandardCharsets.UTF_8)) + '"';
        if (!found.equals(said)) {
            throw new BadInput(kind, file, "was altered after it was written; " + again(kind));
        }
        return manifest;
    }

    /** A member; {@link BadInput} where it is missing. */
    JsonElement get(String name) {
        String text = members.get(name);
        if (text == null) {
            throw new BadInput(kind, file, "has no " + name + "; " + again(kind));
        }
        return JsonParser.parseString(text);
    }

    /** The error of a manifest whose parts do not belong together. */
    BadInput contradiction(String why) {
        return new BadInput(kind, file, "contradicts itself (" + why + "); " + again(kind));
    }

    /**
     * The manifest's fingerprint, 16 hexadecimal digits, which must be that of its features.
     *
     * @throws BadInput where it is not
     */
    String fingerprint() {
        String said = get("fingerprint").getAsString();
        byte[] features = members.getOrDefault("features", "").getBytes(StandardCharsets.UTF_8);
        if (!said.equals("%016x".formatted(new XxHash().hashBytes(features)))) {
            String remedy = "features, categories and fingerprint do not belong together; ";
            throw new BadInput(kind, file, remedy + again(kind));
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

    /** JSON without the white space between its tokens. */
    private static String compact(String json) {
        StringBuilder kept = new StringBuilder(json.length());
        for (int i = 0; i < json.length(); i++) {
            char c = json.charAt(i);
            if (c == '"') {
                int end = closingQuote(json, i);
                kept.append(json, i, end + 1);
                i = end;
            } else if (c > ' ') {
                kept.append(c);
            }
        }
        return kept.toString();
    }

    /** The members of a compact JSON object, by name, each as its own text, in their order. */
    private static Map<String, String> members(String json) {
        if (!JsonParser.parseString(json).isJsonObject()) {
            throw new JsonParseException("not an object");
        }
        Map<String, String> members = new LinkedHashMap<>();
        int at = 1;
        while (json.charAt(at) == '"') {
            int quote = closingQuote(json, at);
            int end = endOfValue(json, quote + 2);
            members.put(json.substring(at + 1, quote), json.substring(quote + 2, end));
            at = end + 1;
            if (at == json.length()) {
                break;
            }
        }
        return members;
    }

    /** Where the value that starts at {@code at} ends: its comma, or the object's bracket. */
    private static int endOfValue(String json, int at) {
        int depth = 0;
        while (true) {
            char c = json.charAt(at);
            if (c == '"') {
                at = closingQuote(json, at);
            } else if (depth == 0 && (c == ',' || c == '}')) {
                return at;
            } else if (c == '{' || c == '[') {
                depth++;
            } else if (c == '}' || c == ']') {
                depth--;
            }
            at++;
        }
    }

    private static int closingQuote(String json, int at) {
        do {
            at += json.charAt(at) == '\\' ? 2 : 1;
        } while (json.charAt(at) != '"');
        return at;
    }
}
