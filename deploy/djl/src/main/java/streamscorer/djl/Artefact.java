package streamscorer.djl;

import com.google.gson.Gson;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * A model artefact whose files agree with its manifest, the card apart, which changes no score.
 *
 * @param directory has manifest.json, model-symbol.json and model-0000.params
 * @param version changes when a score does
 * @param fingerprint of the features that it was trained on, 16 hexadecimal digits
 * @param categories the N names
 * @param network what its manifest says of the network
 * @param golden rows and their scores as training stored them; null where it stored none
 */
public record Artefact(
        Path directory,
        String version,
        String fingerprint,
        List<String> categories,
        Network network,
        GoldenBatch golden) {
    static final String KIND = "model";

    static final String MANIFEST = "manifest.json";
    static final String SYMBOL = "model-symbol.json";
    static final String PARAMS = "model-0000.params";

    /**
     * Reads the manifest and checks all files against it.
     *
     * @throws BadInput where something is missing, altered, contradictory or of a newer format
     */
    public static Artefact load(Path directory) {
        Path file = directory.resolve(MANIFEST);
        Manifest manifest = Manifest.parse(KIND, file.toString(), InputFile.read(KIND, file, Manifest.MAX_BYTES));
        requireKinds(manifest);
        manifest.requireUnaltered();
        Network network;
        try {
            network = network(manifest);
            network.trendWidth();
        } catch (IllegalStateException | NullPointerException | IndexOutOfBoundsException
                | NumberFormatException | UnsupportedOperationException | ClassCastException
                | ArithmeticException error) {
            throw manifest.contradiction(error.getMessage());
        }
        byte[] symbol = checked(directory.resolve(SYMBOL), manifest, SymbolFile.MAX_BYTES);
        byte[] parameters = checked(directory.resolve(PARAMS), manifest, ParamsFile.mostBytes(network.shapes()));
        refuse(directory.resolve(PARAMS), ParamsFile.problem(parameters, network));
        refuse(directory.resolve(SYMBOL), SymbolFile.problem(symbol, network));
        return new Artefact(
                directory,
                manifest.get("model_version").getAsString(),
                manifest.fingerprint(),
                strings(manifest.get("categories").getAsJsonArray()),
                network,
                golden(directory, manifest, network));
    }

    /**
     * The names of the files whose checksums a manifest holds.
     *
     * @param file where the manifest stands, for messages
     * @throws BadInput where it is no model's manifest
     */
    static List<String> files(String file, byte[] manifest) {
        Manifest parsed = Manifest.parse(KIND, file, manifest);
        requireKinds(parsed);
        return hasGolden(parsed) ? List.of(SYMBOL, PARAMS, GoldenBatch.FILE) : List.of(SYMBOL, PARAMS);
    }

    private static boolean hasGolden(Manifest manifest) {
        return manifest.get("files").getAsJsonObject().has(GoldenBatch.FILE);
    }

    private static GoldenBatch golden(Path directory, Manifest manifest, Network network) {
        if (!hasGolden(manifest)) {
            return null;
        }
        Path file = directory.resolve(GoldenBatch.FILE);
        byte[] content = checked(file, manifest, GoldenBatch.mostBytes(network));
        try {
            return GoldenBatch.read(content, network);
        } catch (ParamsFile.Wrong wrong) {
            throw new BadInput(KIND, file, wrong.getMessage() + "; " + Manifest.again(KIND));
        }
    }

    /** C. */
    public int classes() {
        return network.classes();
    }

    /** F, of the vectors that it scores. */
    public int columns() {
        return network.columns();
    }

    private static void refuse(Path file, String problem) {
        if (problem != null) {
            throw new BadInput(KIND, file, problem + "; train the model again");
        }
    }

    /** Refuses members of other types than the Python package writes. */
    private static void requireKinds(Manifest manifest) {
        for (String name : List.of("model_version", "fingerprint")) {
            if (!Json.isText(manifest.get(name))) {
                throw manifest.wrong(name);
            }
        }
        for (String name : List.of("features", "labels", "network", "training", "versions", "metrics",
                "calibration", "files")) {
            if (!manifest.get(name).isJsonObject()) {
                throw manifest.wrong(name);
            }
        }
        for (String name : List.of("categories", "category_index")) {
            if (!manifest.get(name).isJsonArray()) {
                throw manifest.wrong(name);
            }
        }
        if (!Json.isWhole(manifest.get("classes"))) {
            throw manifest.wrong("classes");
        }
        // It names folders and files, and stands in log lines.
        if (!manifest.get("model_version").getAsString().matches("[0-9a-f]{16}")) {
            throw manifest.contradiction("model_version is not 16 hexadecimal digits");
        }
    }

    /** What the network is, by members that agree with each other. */
    private static Network network(Manifest manifest) {
        JsonObject labels = manifest.get("labels").getAsJsonObject();
        JsonObject spec = manifest.get("network").getAsJsonObject();
        List<Integer> hidden = Network.sizes(spec, "hidden");
        List<Integer> pooled = Network.sizes(spec, "pooled");
        JsonElement ownPath = spec.get("own_path");
        boolean isOwnPath = ownPath != null && ownPath.isJsonPrimitive() && ownPath.getAsJsonPrimitive().isBoolean();
        require(manifest, Json.isText(labels.get("by")), "labels.by");
        require(manifest, isHorizon(labels.get("horizon_ms")), "labels.horizon_ms");
        require(manifest, areActions(labels.get("actions")), "labels.actions");
        require(manifest, hidden != null, "network.hidden");
        require(manifest, pooled != null, "network.pooled");
        require(manifest, isShare(spec.get("dropout")), "network.dropout");
        require(manifest, isOwnPath, "network.own_path");
        boolean isOfFormat1 = spec.size() == 4;
        Network.Pairs pairs = isOfFormat1 ? Network.Pairs.ALL : Network.pairs(spec);
        int tower = isOfFormat1 ? 0 : Network.units(spec, "tower");
        int linearRank = isOfFormat1 ? 0 : Network.units(spec, "linear_rank");
        require(manifest, pairs != null, "network.pairs");
        require(manifest, tower >= 0, "network.tower");
        require(manifest, linearRank >= 0, "network.linear_rank");
        require(manifest, isOfFormat1 || spec.size() == 7, "network");
        long classes = manifest.get("classes").getAsLong();
        if (classes != labels.getAsJsonArray("actions").size() + 1) {
            throw manifest.contradiction("classes is " + classes + ", its labels have "
                    + (labels.getAsJsonArray("actions").size() + 1));
        }
        JsonObject features = manifest.get("features").getAsJsonObject();
        JsonArray vocabulary =
                features.getAsJsonObject("vocabularies").getAsJsonArray(labels.get("by").getAsString());
        if (vocabulary == null) {
            throw manifest.contradiction("features has no vocabulary of " + labels.get("by").getAsString());
        }
        List<Integer> index = new ArrayList<>();
        List<String> named = new ArrayList<>();
        for (JsonElement entry : manifest.get("category_index").getAsJsonArray()) {
            if (!Json.isWhole(entry) || entry.getAsLong() < 0 || entry.getAsLong() >= vocabulary.size()) {
                throw manifest.contradiction("category_index has " + entry);
            }
            index.add((int) entry.getAsLong());
            named.add(vocabulary.get((int) entry.getAsLong()).getAsString());
        }
        if (!named.equals(strings(manifest.get("categories").getAsJsonArray()))) {
            throw manifest.unfit(Manifest.APART);
        }
        manifest.fingerprint();
        if (named.isEmpty() || Set.copyOf(named).size() != named.size()) {
            throw manifest.unfit("its categories are none, or one stands twice");
        }
        FeatureColumns columns = FeatureColumns.of(features);
        Network network = new Network(
                columns.count(), vocabulary.size(), List.copyOf(index), (int) classes,
                columns.own(labels.get("by").getAsString()), columns.customer(),
                columns.trend(), columns.contrasts(), hidden, ownPath.getAsBoolean(), pooled, pairs, tower, linearRank);
        if (network.contextWidth() == 0) {
            throw manifest.contradiction("a network without hidden layers needs customer-wide features");
        }
        return network;
    }

    private static boolean isShare(JsonElement dropout) {
        return dropout != null && dropout.isJsonPrimitive() && dropout.getAsJsonPrimitive().isNumber()
                && dropout.getAsDouble() >= 0 && dropout.getAsDouble() < 1;
    }

    private static void require(Manifest manifest, boolean right, String name) {
        if (!right) {
            throw manifest.contradiction(name + " has a value of another type than stream-scorer writes");
        }
    }

    private static boolean isHorizon(JsonElement horizon) {
        return Json.isWhole(horizon) && horizon.getAsLong() > 0;
    }

    private static boolean areActions(JsonElement element) {
        if (!(element instanceof JsonArray actions) || actions.isEmpty()) {
            return false;
        }
        for (JsonElement group : actions) {
            if (!group.isJsonArray() || group.getAsJsonArray().isEmpty()) {
                return false;
            }
            for (JsonElement name : group.getAsJsonArray()) {
                if (!Json.isText(name)) {
                    return false;
                }
            }
        }
        return true;
    }

    /** Refuses a snapshot of other features. */
    public void requireFeaturesOf(Snapshot snapshot) {
        if (!snapshot.fingerprint().equals(fingerprint)) {
            String remedy = "the model's or configuration's features have %s: replay or export again";
            throw new BadInput("snapshot " + snapshot.directory() + ": fingerprint",
                    snapshot.fingerprint(), remedy.formatted(fingerprint));
        }
    }

    /** Whether it needs the shop's trend to score. */
    public boolean hasTrend() {
        return network.contrasts() > 0;
    }

    /** How many numbers a score file has for a customer: N where C is 2, else N * C. */
    public int scoresPerCustomer() {
        return categories.size() * (classes() == 2 ? 1 : classes());
    }

    /** The metadata of a score file, for its readers: categories (a JSON list), classes, model_version. */
    Map<String, String> described() {
        return Map.of(
                "categories", new Gson().toJson(categories),
                "classes", Integer.toString(classes()),
                "model_version", version);
    }

    /** A file's bytes, compared with the manifest's SHA-256. */
    private static byte[] checked(Path file, Manifest manifest, long maxBytes) {
        JsonElement sum = manifest.get("files").getAsJsonObject().get(file.getFileName().toString());
        if (sum == null) {
            throw manifest.unfit("the manifest does not list " + file.getFileName());
        }
        byte[] content = InputFile.read(KIND, file, maxBytes);
        if (!Json.isText(sum) || !Manifest.sha256(content).equals(sum.getAsString())) {
            throw new BadInput(KIND, file, "its SHA-256 is not the manifest's; " + Manifest.again(KIND));
        }
        return content;
    }

    private static List<String> strings(JsonArray array) {
        List<String> strings = new ArrayList<>(array.size());
        for (JsonElement element : array) {
            if (!Json.isText(element)) {
                throw new IllegalStateException("categories has a value of another type than stream-scorer writes");
            }
            strings.add(element.getAsString());
        }
        return List.copyOf(strings);
    }
}
