package streamscorer.djl;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.google.gson.JsonParser;
import org.junit.jupiter.api.Test;

class FeatureColumnsTest {
    @Test
    void everyKindOfFeatureIsCounted() {
        String declaration = """
                {"features": [
                  {"kind": "decayed", "by": [], "buckets": 0, "half_lives": ["2d", "inf"]},
                  {"kind": "decayed", "by": ["category_id"], "buckets": 0, "half_lives": ["2d", "14d", "90d"]},
                  {"kind": "decayed", "by": ["category_id", "event_type"], "buckets": 0, "half_lives": ["inf"]},
                  {"kind": "trend", "by": ["category_id"], "buckets": 0, "half_lives": ["2d", "14d", "90d"]},
                  {"kind": "first", "by": ["category_id"], "buckets": 0, "half_lives": ["2d", "14d"]},
                  {"kind": "trend", "by": ["category_id"], "buckets": 0, "half_lives": ["1d", "7d"]},
                  {"kind": "latest", "by": ["product_id"], "buckets": 50, "half_lives": ["inf"]},
                  {"kind": "calendar", "by": ["hour_of_day", "day_of_week"], "buckets": 0, "half_lives": ["inf"]}],
                 "vocabularies": {"category_id": ["a", "b", "c", "d"], "event_type": ["x", "y"]}}
                """;
        FeatureColumns columns = FeatureColumns.of(JsonParser.parseString(declaration).getAsJsonObject());
        assertEquals(2 + 3 * 4 + 4 * 2 + 1 + 2 * 4 + 1 + 50 + 24 * 7, columns.count());
        assertEquals(2 + 3 * 4 + 4 * 2, columns.trend());
        assertEquals(2 + 1, columns.contrasts());
        assertEquals(3 + 2, columns.own("category_id").size());
    }
}
