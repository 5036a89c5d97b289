package streamscorer.djl;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * The columns that a feature declaration makes. stream_scorer/core/features/space.py lays them out and says
 * what each one is.
 *
 * @param blocks one for each half-life of a feature, or one for a trend, in the order of the columns
 */
record FeatureColumns(List<Block> blocks) {
    private static final Map<String, Integer> CALENDAR = Map.of("hour_of_day", 24, "day_of_week", 7);

    /** Columns from start up to, but not including, stop. */
    record Range(int start, int stop) {}

    /**
     * @param fields whose values are the columns, none for one column of the customer
     * @param contrasts of a trend, whose one column holds the day of the as-of moment; 0 of others
     */
    record Block(Range range, List<String> fields, boolean hashed, boolean calendar, int contrasts) {
        boolean trend() {
            return contrasts > 0;
        }
    }

    /** Lays out a manifest's {@code features}; throws what Gson throws where they are not as Python writes them. */
    static FeatureColumns of(JsonObject declaration) {
        JsonObject vocabularies = declaration.getAsJsonObject("vocabularies");
        List<Block> blocks = new ArrayList<>();
        int start = 0;
        for (JsonElement element : declaration.getAsJsonArray("features")) {
            JsonObject feature = element.getAsJsonObject();
            long width = width(feature, vocabularies);
            boolean calendar = isCalendar(feature);
            List<String> fields = new ArrayList<>();
            feature.getAsJsonArray("by").forEach(field -> fields.add(field.getAsString()));
            boolean hashed = feature.get("buckets").getAsLong() > 0;
            int halfLives = feature.getAsJsonArray("half_lives").size();
            int contrasts = isTrend(feature) ? halfLives - 1 : 0;
            for (int i = 0; i < (isTrend(feature) ? 1 : halfLives); i++) {
                int stop = Math.toIntExact(start + width);
                Range range = new Range(start, stop);
                blocks.add(new Block(range, List.copyOf(fields), hashed, calendar, contrasts));
                start = stop;
            }
        }
        return new FeatureColumns(List.copyOf(blocks));
    }

    /** F. */
    int count() {
        return blocks.isEmpty() ? 0 : blocks.get(blocks.size() - 1).range().stop();
    }

    /** The ranges in which column i is that of value i of this field alone; a hashed one is no value's own. */
    List<Range> own(String field) {
        return blocks.stream()
                .filter(block -> block.fields().equals(List.of(field)) && !block.hashed() && !block.trend())
                .map(Block::range)
                .toList();
    }

    /** The ranges of customer-wide columns, totals and calendars; adjoining ones merged. */
    List<Range> customer() {
        List<Range> ranges = new ArrayList<>();
        for (Block block : blocks) {
            if (!block.fields().isEmpty() && !block.calendar()) {
                continue;
            }
            int last = ranges.size() - 1;
            if (last >= 0 && ranges.get(last).stop() == block.range().start()) {
                ranges.set(last, new Range(ranges.get(last).start(), block.range().stop()));
            } else {
                ranges.add(block.range());
            }
        }
        return List.copyOf(ranges);
    }

    /** The column of the day; -1 where no trend is declared. All trends have a column, and all hold the same. */
    int trend() {
        return blocks.stream().filter(Block::trend).map(block -> block.range().start()).findFirst().orElse(-1);
    }

    /** G: the contrasts of all trends. */
    int contrasts() {
        return blocks.stream().mapToInt(Block::contrasts).sum();
    }

    private static boolean isTrend(JsonObject feature) {
        return feature.get("kind").getAsString().equals("trend");
    }

    private static boolean isCalendar(JsonObject feature) {
        return feature.get("kind").getAsString().equals("calendar");
    }

    private static long width(JsonObject feature, JsonObject vocabularies) {
        if (isTrend(feature)) {
            return 1;
        }
        long buckets = feature.get("buckets").getAsLong();
        if (buckets > 0) {
            return buckets;
        }
        boolean calendar = isCalendar(feature);
        long width = 1;
        for (JsonElement field : feature.getAsJsonArray("by")) {
            String name = field.getAsString();
            JsonArray words = vocabularies.getAsJsonArray(name);
            width = Math.multiplyExact(width, calendar ? CALENDAR.get(name) : words.size());
        }
        return width;
    }
}
