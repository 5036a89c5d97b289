package streamscorer.djl;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import com.google.gson.internal.LazilyParsedNumber;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * JSON as stream_scorer/manifests.py reads it: UTF-8, no name twice in one object, no deep nesting, and
 * NaN and Infinity, which Python writes. Gson's own reader takes comments and single quotes, and of a name
 * that stands twice the last. Numbers keep their text, because a checksum is one of texts.
 */
final class Json {
    private static final int MAX_DEPTH = 101;
    private static final int MAX_DIGITS = 4_300; // of a whole number, in Python
    private static final Pattern NUMBER =
            Pattern.compile("NaN|-?Infinity|(-?(?:0|[1-9]\\d*))(\\.\\d+)?([eE][-+]?\\d+)?");
    private static final Pattern WHOLE = Pattern.compile("-?\\d{1,19}");

    private final String text;
    private int at;

    private Json(String text) {
        this.text = text;
    }

    /** The text is not such JSON; the message says why, in the words of the Python package. */
    static final class BadJson extends Exception {
        private static final long serialVersionUID = 1L;

        BadJson(String message) {
            super(message);
        }
    }

    static JsonElement parse(byte[] content) throws BadJson {
        boolean marked = content.length >= 3
                && content[0] == (byte) 0xEF && content[1] == (byte) 0xBB && content[2] == (byte) 0xBF;
        ByteBuffer bytes = ByteBuffer.wrap(content, marked ? 3 : 0, content.length - (marked ? 3 : 0));
        Json json;
        try {
            json = new Json(StandardCharsets.UTF_8.newDecoder().decode(bytes).toString());
        } catch (CharacterCodingException error) {
            throw new BadJson("it is not UTF-8");
        }
        JsonElement value = json.value(1);
        json.skipBlanks();
        if (json.at < json.text.length()) {
            throw wrong();
        }
        return value;
    }

    /** The text that Python's {@code json.dumps(value, sort_keys=True, separators=(",", ":"))} makes of it. */
    static String compact(JsonElement value) {
        StringBuilder to = new StringBuilder();
        write(value, to);
        return to.toString();
    }

    /** Whether it is a whole number of a long's size, which 1.0 and true are not. */
    static boolean isWhole(JsonElement value) {
        if (value == null || !value.isJsonPrimitive() || !value.getAsJsonPrimitive().isNumber()
                || !WHOLE.matcher(value.getAsString()).matches()) {
            return false;
        }
        try {
            Long.parseLong(value.getAsString());
            return true;
        } catch (NumberFormatException error) {
            return false;
        }
    }

    static boolean isText(JsonElement value) {
        return value != null && value.isJsonPrimitive() && value.getAsJsonPrimitive().isString();
    }

    private static BadJson wrong() {
        return new BadJson("it is not JSON");
    }

    private JsonElement value(int depth) throws BadJson {
        skipBlanks();
        switch (next()) {
            case '{':
                return object(depth);
            case '[':
                return array(depth);
            case '"':
                return new JsonPrimitive(string());
            default:
                return word();
        }
    }

    private JsonObject object(int depth) throws BadJson {
        requireDepth(depth);
        JsonObject object = new JsonObject();
        at++;
        skipBlanks();
        if (next() == '}') {
            at++;
            return object;
        }
        while (true) {
            skipBlanks();
            if (next() != '"') {
                throw wrong();
            }
            String name = string();
            skipBlanks();
            expect(':');
            JsonElement value = value(depth + 1);
            if (object.has(name)) {
                throw new BadJson("it has the name '" + BadInput.shown(name, 60) + "' twice in one object");
            }
            object.add(name, value);
            skipBlanks();
            if (next() == '}') {
                at++;
                return object;
            }
            expect(',');
        }
    }

    private JsonArray array(int depth) throws BadJson {
        requireDepth(depth);
        JsonArray array = new JsonArray();
        at++;
        skipBlanks();
        if (next() == ']') {
            at++;
            return array;
        }
        while (true) {
            array.add(value(depth + 1));
            skipBlanks();
            if (next() == ']') {
                at++;
                return array;
            }
            expect(',');
        }
    }

    private JsonElement word() throws BadJson {
        for (String word : new String[] {"true", "false", "null"}) {
            if (text.startsWith(word, at)) {
                at += word.length();
                return word.equals("null") ? JsonNull.INSTANCE : new JsonPrimitive(word.equals("true"));
            }
        }
        Matcher number = NUMBER.matcher(text).region(at, text.length());
        boolean found = number.lookingAt();
        boolean whole = found && number.group(1) != null && number.group(2) == null && number.group(3) == null;
        if (!found || whole && number.end() - at > MAX_DIGITS) {
            throw wrong();
        }
        at = number.end();
        return new JsonPrimitive(new LazilyParsedNumber(number.group()));
    }

    private String string() throws BadJson {
        StringBuilder made = new StringBuilder();
        at++;
        while (true) {
            char c = next();
            at++;
            if (c == '"') {
                return made.toString();
            }
            if (c < ' ') {
                throw wrong();
            }
            made.append(c == '\\' ? escaped() : c);
        }
    }

    private char escaped() throws BadJson {
        char c = next();
        at++;
        if (c == 'u') {
            if (at + 4 > text.length() || !text.substring(at, at + 4).matches("[0-9a-fA-F]{4}")) {
                throw wrong();
            }
            at += 4;
            return (char) Integer.parseInt(text.substring(at - 4, at), 16);
        }
        int which = "\"\\/bfnrt".indexOf(c);
        if (which < 0) {
            throw wrong();
        }
        return "\"\\/\b\f\n\r\t".charAt(which);
    }

    private void requireDepth(int depth) throws BadJson {
        if (depth > MAX_DEPTH) {
            throw new BadJson("it is nested too deeply");
        }
    }

    private void expect(char wanted) throws BadJson {
        if (next() != wanted) {
            throw wrong();
        }
        at++;
    }

    private char next() throws BadJson {
        if (at >= text.length()) {
            throw wrong();
        }
        return text.charAt(at);
    }

    private void skipBlanks() {
        while (at < text.length() && " \t\n\r".indexOf(text.charAt(at)) >= 0) {
            at++;
        }
    }

    private static void write(JsonElement value, StringBuilder to) {
        if (value.isJsonObject()) {
            Map<String, JsonElement> sorted = new TreeMap<>(value.getAsJsonObject().asMap());
            String before = "{";
            for (Map.Entry<String, JsonElement> member : sorted.entrySet()) {
                to.append(before);
                writeText(member.getKey(), to);
                to.append(':');
                write(member.getValue(), to);
                before = ",";
            }
            to.append(sorted.isEmpty() ? "{}" : "}");
        } else if (value.isJsonArray()) {
            String before = "[";
            for (JsonElement inner : value.getAsJsonArray()) {
                to.append(before);
                write(inner, to);
                before = ",";
            }
            to.append(value.getAsJsonArray().isEmpty() ? "[]" : "]");
        } else if (isText(value)) {
            writeText(value.getAsString(), to);
        } else {
            to.append(value.isJsonNull() ? "null" : value.getAsString());
        }
    }

    private static void writeText(String text, StringBuilder to) {
        to.append('"');
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            int named = "\"\\\b\f\n\r\t".indexOf(c);
            if (named >= 0) {
                to.append('\\').append("\"\\bfnrt".charAt(named));
            } else if (c < ' ' || c > '~') {
                to.append("\\u%04x".formatted((int) c));
            } else {
                to.append(c);
            }
        }
        to.append('"');
    }
}
