package streamscorer.djl;

import com.google.gson.Gson;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * A model artefact whose every byte agrees with its manifest.
 *
 * @param directory has manifest.json, model-symbol.json and model-0000.params
 * @param version changes when a score does
 * @param fingerprint of the features that it was trained on, 16 hexadecimal digits
 * @param categories the N names
 * @param classes C
 * @param columns F, of the vectors that it scores
 */
public record Artefact(
        Path directory,
        String version,
        String fingerprint,
        List<String> categories,
        int classes,
        int columns) {
    static final String KIND = "model";

    private static final String SYMBOL = "model-symbol.json";

    /** The manifest, and the files whose checksums it holds. */
    static final List<String> FILES = List.of("manifest.json", SYMBOL, "model-0000.params");

    /**
     * Reads the manifest and checks all files against it.
     *
     * @throws BadInput where something is missing, altered, contradictory or of a newer format
     */
    public static Artefact load(Path directory) {
        Path file = directory.resolve(FILES.get(0));
        Manifest manifest = Manifest.parse(KIND, file.toString(), read(file));
        try {
            JsonObject sums = manifest.get("files").getAsJsonObject();
            for (String name : FILES.subList(1, FILES.size())) {
                byte[] content = checked(directory.resolve(name), sums.get(name), manifest);
                if (name.equals(SYMBOL)) {
                    SymbolFile.check(directory.resolve(name), content);
                }
            }
            JsonObject features = manifest.get("features").getAsJsonObject();
            List<String> categories = strings(manifest.get("categories").getAsJsonArray());
            JsonObject labels = manifest.get("labels").getAsJsonObject();
            String by = labels.get("by").getAsString();
            int classes = manifest.get("classes").getAsInt();
            if (classes != labels.getAsJsonArray("actions").size() + 1) {
                throw manifest.contradiction("classes " + classes);
            }
            List<String> words = strings(features.getAsJsonObject("vocabularies").getAsJsonArray(by));
            List<String> named = new ArrayList<>();
            for (JsonElement index : manifest.get("category_index").getAsJsonArray()) {
                named.add(words.get(index.getAsInt()));
            }
            if (!named.equals(categories)) {
                throw manifest.contradiction("categories");
            }
            return new Artefact(
                    directory,
                    manifest.get("model_version").getAsString(),
                    manifest.fingerprint(),
                    categories,
                    classes,
                    FeatureColumns.count(features));
        } catch (IllegalStateException | NullPointerException | IndexOutOfBoundsException
                | NumberFormatException | UnsupportedOperationException | ClassCastException
                | ArithmeticException error) {
            throw manifest.contradiction(error.toString());
        }
    }

    /** Refuses a snapshot of other features. */
    public void requireFeaturesOf(Snapshot snapshot) {
        if (!snapshot.fingerprint().equals(fingerprint)) {
            String remedy = "the model's features have '%s': replay or export again with them, or train on these";
            throw new BadInput("snapshot " + snapshot.directory() + ": fingerprint",
                    snapshot.fingerprint(), remedy.formatted(fingerprint));
        }
    }

    /** How many numbers a score file has for a customer: N where C is 2, else N * C. */
    public int scoresPerCustomer() {
        return categories.size() * (classes == 2 ? 1 : classes);
    }

    /** The metadata of a score file, for its readers: categories (a JSON list), classes, model_version. */
    Map<String, String> described() {
        return Map.of(
                "categories", new Gson().toJson(categories),
                "classes", Integer.toString(classes),
                "model_version", version);
    }

    /** A file's bytes, compared with the manifest's SHA-256. */
    private static byte[] checked(Path file, JsonElement sum, Manifest manifest) {
        if (sum == null) {
            throw manifest.contradiction("does not list " + file.getFileName());
        }
        byte[] content = read(file);
        if (!Manifest.sha256(content).equals(sum.getAsString())) {
            throw new BadInput(KIND, file, "its SHA-256 is not the manifest's; " + Manifest.again(KIND));
        }
        return content;
    }

    private static byte[] read(Path file) {
        try {
            // A pipe or a device of that name would be read for ever.
            if (Files.exists(file) && !Files.isRegularFile(file)) {
                throw new BadInput(KIND, file, "is not a file; " + Manifest.again(KIND));
            }
            return Files.readAllBytes(file);
        } catch (NoSuchFileException error) {
            throw new BadInput(KIND, file, "is missing; " + Manifest.again(KIND));
        } catch (IOException error) {
            throw new BadInput(KIND, file, "can't be read: " + error.getMessage());
        }
    }

    private static List<String> strings(JsonArray array) {
        List<String> strings = new ArrayList<>(array.size());
        array.forEach(element -> strings.add(element.getAsString()));
        return List.copyOf(strings);
    }
}
