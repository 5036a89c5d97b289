package streamscorer.djl;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.util.Map;

/**
 * How many columns a feature declaration makes; as stream_scorer/core/features/space.py lays them
 * out, which says what each of them is.
 */
final class FeatureColumns {
    private static final Map<String, Integer> CALENDAR = Map.of("hour_of_day", 24, "day_of_week", 7);

    private FeatureColumns() {}

    /**
     * F of a manifest's {@code features}: each half-life of each feature has as many columns as its
     * fields have values together, or as it has buckets.
     */
    static int count(JsonObject declaration) {
        long columns = 0;
        for (JsonElement element : declaration.getAsJsonArray("features")) {
            JsonObject feature = element.getAsJsonObject();
            columns += width(feature, declaration.getAsJsonObject("vocabularies"))
                    * feature.getAsJsonArray("half_lives").size();
        }
        return Math.toIntExact(columns);
    }

    private static long width(JsonObject feature, JsonObject vocabularies) {
        long buckets = feature.get("buckets").getAsLong();
        if (buckets > 0) {
            return buckets;
        }
        boolean calendar = feature.get("kind").getAsString().equals("calendar");
        long width = 1;
        for (JsonElement field : feature.getAsJsonArray("by")) {
            String name = field.getAsString();
            width *= calendar ? CALENDAR.get(name) : vocabularies.getAsJsonArray(name).size();
        }
        return width;
    }
}
