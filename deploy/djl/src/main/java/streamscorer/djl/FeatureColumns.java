package streamscorer.djl;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.util.Map;

/**
 * The number of columns that a feature declaration makes. stream_scorer/core/features/space.py lays
 * them out and says what each one is.
 */
final class FeatureColumns {
    private static final Map<String, Integer> CALENDAR = Map.of("hour_of_day", 24, "day_of_week", 7);

    private FeatureColumns() {}

    /**
     * F of a manifest's {@code features}: for each half-life of a feature, its number of buckets, or
     * without buckets the number of combinations of its fields' values.
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
